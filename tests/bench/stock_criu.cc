// stock_criu DUMPS RESTORES PROGRAM [ARG...]: what CRIU alone takes for the tree that `ppdsm exec`
// would run: the same sandbox, made by the same warden, the same CRIU with the same options; but
// nothing is cut while the tree is frozen, and nothing is stored. DUMPS times it dumps and lets the
// program run on; then RESTORES times it restores the last images in a fresh sandbox. Prints one
// JSON object a dump and a restore.
//
// The program must name its process "round ..." when it is ready to be measured (see
// page_toucher.c). $BEFORE_EACH: a shell command to be run before each dump and restore. State
// under $PPDSM_HOME; $PPDSM_LIBEXEC: where the warden and init lie.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "criu-glue/criu/locate_criu.h"
#include "criu-glue/files/copy_content.h"
#include "criu-glue/images/dump_statistics.h"
#include "criu-glue/sandbox/warden_link.h"
#include "dsm/base/wall_clock.h"
#include "runtime/peer/file_view.h"
#include "runtime/peer/process_tree.h"

extern char** environ;

namespace ppdsm {
namespace {

namespace fs = std::filesystem;
using Type = WardenMessage::Type;

constexpr int kBetweenDumpsMs = 500;
constexpr int kReadyTimeoutMs = 60'000;

double ms_since(std::int64_t begun_us) {
    return static_cast<double>(monotonic_now_us() - begun_us) / 1000;
}

void sleep_ms(int ms) { ::poll(nullptr, 0, ms); }

Status run_before_each() {
    const char* command = std::getenv("BEFORE_EACH");
    if (command == nullptr || std::system(command) == 0) return {};
    return fail(Code::kInvalid, std::string(command) + " failed");
}

/// The program's standard streams: our ends, its ends, and the names by which CRIU knows the
/// latter.
struct Streams {
    std::vector<OwnedFd> ours;
    std::vector<OwnedFd> theirs;
    std::string keys;
};

Result<Streams> make_streams() {
    Streams streams;
    for (int number = 0; number < 3; ++number) {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("make a pipe");
        const bool is_input = number == 0;
        streams.ours.emplace_back(ends[is_input ? 1 : 0]);
        streams.theirs.emplace_back(ends[is_input ? 0 : 1]);
        ::fcntl(streams.ours.back().get(), F_SETFL, O_NONBLOCK);
        struct stat info{};
        ::fstat(streams.theirs.back().get(), &info);
        streams.keys += fmt::format("pipe:[{}]\n", info.st_ino);
    }
    return streams;
}

/// Prints what the program has said of its gaps.
void drain(const OwnedFd& output) {
    std::array<char, 65536> buffer;
    std::string text;
    ssize_t got = 0;
    while ((got = ::read(output.get(), buffer.data(), buffer.size())) > 0) {
        text.append(buffer.data(), static_cast<std::size_t>(got));
    }
    for (std::size_t at = 0; (at = text.find("gap_ms ", at)) != std::string::npos; ++at) {
        fmt::print("{{\"gap_ms\":{}}}\n", std::atof(text.c_str() + at + 7));
    }
}

class Subject {
public:
    explicit Subject(std::vector<std::string> command) : command_(std::move(command)) {}
    ~Subject() {
        link_.reset();
        std::error_code ignored;
        if (!paths_.directory.empty()) fs::remove_all(paths_.directory, ignored);
    }
    Subject(const Subject&) = delete;
    Subject& operator=(const Subject&) = delete;

    Status start();
    Status dump();
    Status restore();
    void print_gaps() { drain(streams_.ours.at(1)); }

private:
    Status describe_sandbox();
    Status spawn();
    Result<WardenMessage> expect(Type type);
    Status wait_until_ready(pid_t init);

    std::vector<std::string> command_;
    VcPaths paths_;
    fs::path libexec_;
    SandboxSpec spec_;
    std::optional<WardenLink> link_;
    Streams streams_;
    std::string keys_at_dump_;
    OwnedFd images_;
};

Status Subject::describe_sandbox() {
    const char* libexec = std::getenv("PPDSM_LIBEXEC");
    if (libexec == nullptr) return fail(Code::kInvalid, "PPDSM_LIBEXEC is not set");
    libexec_ = libexec;
    PPDSM_ASSIGN(const Home home, Home::open());
    PPDSM_ASSIGN(paths_, home.create_vc());
    VcRecord record;
    record.program = command_.front();
    record.arguments = command_;
    for (char** entry = environ; *entry != nullptr; ++entry)
        record.environment.emplace_back(*entry);
    record.working_directory = fs::current_path();
    PPDSM_ASSIGN(const FileView view,
                 build_file_view(record, paths_, home, libexec_ / "ppdsm-init"));
    PPDSM_TRY(make_mount_points(view));
    PPDSM_ASSIGN(const CriuInstallation criu, locate_criu(home.cache()));
    utsname names{};
    ::uname(&names);
    spec_.hostname = names.nodename;
    spec_.skeleton = view.skeleton;
    spec_.refusals_log = paths_.refusals();
    spec_.mounts = view.mounts;
    spec_.program = record.program;
    spec_.arguments = record.arguments;
    spec_.environment = record.environment;
    spec_.working_directory = record.working_directory;
    spec_.criu_command = criu.command;
    return {};
}

Status Subject::spawn() {
    PPDSM_ASSIGN(WardenLink link, WardenLink::spawn(libexec_ / "ppdsm-warden", spec_));
    link_.emplace(std::move(link));
    PPDSM_ASSIGN(streams_, make_streams());
    return {};
}

Result<WardenMessage> Subject::expect(Type type) {
    PPDSM_ASSIGN(WardenMessage message, link_->socket().receive());
    if (message.type != type) {
        return fail(Code::kUnsupported, message.text.empty() ? "the sandbox ended" : message.text);
    }
    return message;
}

Status Subject::wait_until_ready(pid_t init) {
    for (int waited_ms = 0; waited_ms < kReadyTimeoutMs; waited_ms += 10) {
        const Result<std::string> name = read_text(fmt::format("/proc/{}/comm", program_of(init)));
        if (name && name->starts_with("round")) return {};
        sleep_ms(10);
    }
    return fail(Code::kUnavailable, command_.front() + " did not get ready in a minute");
}

Status Subject::start() {
    PPDSM_TRY(describe_sandbox());
    PPDSM_TRY(spawn());
    WardenMessage request{Type::kStart, {}, {}, {}};
    request.fds = std::move(streams_.theirs);
    PPDSM_TRY(link_->socket().send(request));
    PPDSM_ASSIGN(const WardenMessage started, expect(Type::kStarted));
    keys_at_dump_ = streams_.keys;
    return wait_until_ready(pid_of(started.fds.at(0)));
}

Status Subject::dump() {
    sleep_ms(kBetweenDumpsMs);
    PPDSM_TRY(run_before_each());
    const std::int64_t begun_us = monotonic_now_us();
    PPDSM_TRY(link_->socket().send({Type::kDump, {}, {}, {}}));
    PPDSM_TRY(expect(Type::kFrozen));
    PPDSM_TRY(link_->socket().send({Type::kCutDone, {1, 0}, {}, {}}));
    PPDSM_ASSIGN(WardenMessage dumped, expect(Type::kDumped));
    const double wall_ms = ms_since(begun_us);
    images_ = std::move(dumped.fds.at(0));
    PPDSM_ASSIGN(const OwnedFd file, open_file_at(images_, "stats-dump", O_RDONLY));
    Bytes bytes(4096);
    const ssize_t got = ::pread(file.get(), bytes.data(), bytes.size(), 0);
    if (got < 0) return fail_errno("read stats-dump");
    bytes.resize(static_cast<std::size_t>(got));
    PPDSM_ASSIGN(const DumpStatistics took, read_dump_statistics(bytes));
    const auto ms = [](std::uint64_t us) { return static_cast<double>(us) / 1000; };
    fmt::print(
        "{{\"frozen_ms\":{},\"freezing_ms\":{},\"memdump_ms\":{},\"memwrite_ms\":{},"
        "\"wall_ms\":{}}}\n",
        ms(took.frozen_us), ms(took.freezing_us), ms(took.memdump_us), ms(took.memwrite_us),
        wall_ms);
    return {};
}

/// The images of the last dump outlive its warden, since we hold their directory.
Status Subject::restore() {
    PPDSM_TRY(run_before_each());
    std::int64_t begun_us = monotonic_now_us();
    link_.reset();
    const double end_ms = ms_since(begun_us);
    begun_us = monotonic_now_us();
    PPDSM_TRY(spawn());
    const double spawn_ms = ms_since(begun_us);
    begun_us = monotonic_now_us();
    PPDSM_TRY(link_->socket().send({Type::kImageDirectory, {}, {}, {}}));
    PPDSM_ASSIGN(const WardenMessage directory, expect(Type::kImageDirectory));
    const fs::path listing = fmt::format("/proc/self/fd/{}", images_.get());
    for (const fs::directory_entry& entry : fs::directory_iterator(listing)) {
        const fs::path name = entry.path().filename();
        PPDSM_ASSIGN(const OwnedFd from, open_file_at(images_, name, O_RDONLY));
        PPDSM_ASSIGN(const OwnedFd to,
                     open_file_at(directory.fds.at(0), name, O_RDWR | O_CREAT, 0600));
        PPDSM_TRY(copy_content(from, to));
    }
    const double copy_ms = ms_since(begun_us);
    WardenMessage request{Type::kRestore, {}, keys_at_dump_, {}};
    request.fds = std::move(streams_.theirs);
    begun_us = monotonic_now_us();
    PPDSM_TRY(link_->socket().send(request));
    PPDSM_TRY(expect(Type::kRestored));
    fmt::print("{{\"restore_ms\":{},\"end_ms\":{},\"spawn_ms\":{},\"copy_ms\":{}}}\n",
               ms_since(begun_us), end_ms, spawn_ms, copy_ms);
    return {};
}

Status run(int dumps, int restores, std::vector<std::string> command) {
    Subject subject(std::move(command));
    PPDSM_TRY(subject.start());
    for (int i = 0; i < dumps; ++i) PPDSM_TRY(subject.dump());
    sleep_ms(kBetweenDumpsMs);
    subject.print_gaps();
    for (int i = 0; i < restores; ++i) PPDSM_TRY(subject.restore());
    return {};
}

}  // namespace
}  // namespace ppdsm

int main(int argc, char** argv) {
    if (argc < 4) {
        fmt::print(stderr, "usage: stock_criu DUMPS RESTORES PROGRAM [ARG...]\n");
        return 2;
    }
    const ppdsm::Status done =
        ppdsm::run(std::atoi(argv[1]), std::atoi(argv[2]), {argv + 3, argv + argc});
    if (done) return 0;
    fmt::print(stderr, "stock_criu: {}\n", done.error().message());
    return 1;
}
