#include "tests/unit/images/real_dump.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

// Far beyond what a loaded machine needs; only a hang gets here.
constexpr std::chrono::seconds kPatience{60};

std::string criu_command() {
    if (const char* given = std::getenv("PPDSM_CRIU"); given != nullptr) return given;
    if (fs::exists("/opt/ppdsm-criu/criu")) return "/opt/ppdsm-criu/criu";
    return "criu";
}

// In the child: nothing but the three standard streams, none of them the test's own.
[[noreturn]] void become(const std::vector<std::string>& command, const fs::path& output) {
    const int in = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (in < 0 || out < 0) ::_exit(125);
    ::dup2(in, 0);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::close_range(3, ~0U, 0);
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
}

int run(const std::vector<std::string>& command, const fs::path& output) {
    const pid_t child = ::fork();
    if (child == 0) become(command, output);
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

std::string missing_for_real_dumps() {
    if (::geteuid() != 0) return "root privileges, which dumping a process tree needs";
    const std::string criu = criu_command();
    if (run({criu, "check"}, "/dev/null") != 0) {
        return "a working CRIU (`" + criu + " check` fails; set PPDSM_CRIU to one that works)";
    }
    return {};
}

RealDump::RealDump() {
    std::string pattern = (fs::temp_directory_path() / "ppdsm-images-XXXXXX").string();
    if (::mkdtemp(pattern.data()) != nullptr) directory_ = pattern;
}

RealDump::~RealDump() {
    if (root_ > 0) {
        // A session of its own: nothing but the tree is in its group.
        ::kill(-root_, SIGKILL);
        ::waitpid(root_, nullptr, 0);
    }
    std::error_code ignored;
    if (!directory_.empty()) fs::remove_all(directory_, ignored);
}

Status RealDump::make(bool changed) {
    if (directory_.empty()) return fail_errno("create a directory for the test");
    PPDSM_TRY(start());
    PPDSM_TRY(dump(before()));
    if (!changed) return {};
    if (::kill(root_, SIGUSR1) != 0) return fail_errno("signal the tree");
    PPDSM_TRY(wait_for_facts("changed"));
    return dump(after());
}

Status RealDump::start() {
    PPDSM_TRY(make_directories(files()));
    root_ = ::fork();
    if (root_ < 0) return fail_errno("fork");
    if (root_ == 0) {
        ::setsid();
        become({PPDSM_DUMP_SUBJECT, files().string()}, directory_ / "output");
    }
    return wait_for_facts("facts");
}

Status RealDump::wait_for_facts(const std::string& file) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!fs::exists(files() / file)) {
        if (::waitpid(root_, nullptr, WNOHANG) == root_) {
            root_ = -1;
            return fail(Code::kIo, "the tree ended: " + *read_text(directory_ / "output"));
        }
        if (std::chrono::steady_clock::now() > deadline) {
            return fail(Code::kIo, "the tree did not get ready");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    PPDSM_ASSIGN(const std::string text, read_text(files() / file));
    std::istringstream lines(text);
    std::string name;
    std::uint64_t value = 0;
    while (lines >> name >> value) facts_[name] = value;
    return {};
}

Status RealDump::dump(const fs::path& images) {
    PPDSM_TRY(make_directories(images));
    const int code = run({criu_command(), "dump", "--tree", std::to_string(root_), "--images-dir",
                          images.string(), "--leave-running", "--log-file", "../dump.log"},
                         directory_ / "criu-output");
    if (code == 0) return {};
    const Result<std::string> log = read_text(directory_ / "dump.log");
    return fail(Code::kIo,
                "criu dump ended with " + std::to_string(code) + ":\n" + log.value_or("(no log)"));
}

std::uint64_t RealDump::fact(const std::string& name) const {
    const auto found = facts_.find(name);
    if (found == facts_.end()) {
        ADD_FAILURE() << "the subject wrote down no " << name;
        return 0;
    }
    return found->second;
}

MemorySource::MemorySource(ImageSource& original) {
    for (const std::string& name : original.names()) {
        const Result<Bytes> bytes = original.load(name);
        if (bytes) images[name] = *bytes;
    }
}

Result<Bytes> MemorySource::load(const std::string& name) {
    const auto image = images.find(name);
    if (image == images.end()) return fail(Code::kNotFound, name);
    return image->second;
}

Result<std::uint64_t> MemorySource::size(const std::string& name) {
    const auto image = images.find(name);
    if (image == images.end()) return fail(Code::kNotFound, name);
    return image->second.size();
}

Status MemorySource::read(const std::string& name, std::uint64_t offset_bytes,
                          std::span<std::uint8_t> into) {
    ++reads;
    const auto image = images.find(name);
    if (image == images.end()) return fail(Code::kNotFound, name);
    const Bytes& bytes = image->second;
    if (offset_bytes > bytes.size() || into.size() > bytes.size() - offset_bytes) {
        return fail(Code::kCorrupt, name + " ends early");
    }
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset_bytes), into.size(),
                into.begin());
    return {};
}

std::vector<std::string> MemorySource::names() {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : images) names.push_back(name);
    return names;
}

}  // namespace ppdsm
