#include "criu-glue/sandbox/warden.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <system_error>

#include "criu-glue/sandbox/mount_tree.h"
#include "criu-glue/sandbox/tree_launch.h"
#include "criu-glue/sandbox/unseen_state.h"
#include "dsm/base/files.h"

namespace ppdsm {

namespace {

constexpr const char* kImageRoot = "/run/ppdsm/images";
constexpr std::size_t kLogTailBytes = 40 << 10;

using Type = WardenMessage::Type;

/// In a form that explain_criu_failure() finds.
Status refuse_unseen_state() {
    const Status found = find_unseen_state(std::string(kTreeRoot) + "/proc");
    if (found) return {};
    return fail(found.error().code(),
                "the checkpoint would lack something\nError (ppdsm): " + found.error().message());
}

/// The paths of an ordinary user's tree begin with its root directory.
std::string as_seen_inside(std::string log) {
    const std::string root = kTreeRoot;
    for (std::size_t at = 0; (at = log.find(root + "/", at)) != std::string::npos;) {
        log.erase(at, root.size());
    }
    return log;
}

}  // namespace

Status Warden::serve() {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child, nullptr);
    const OwnedFd signals(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    while (!ended_) {
        std::array<pollfd, 2> waits{
            {{executor_.fd().get(), POLLIN, 0}, {signals.get(), POLLIN, 0}}};
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return fail_errno("poll");
        if ((waits[1].revents & POLLIN) != 0) {
            signalfd_siginfo info{};
            while (::read(signals.get(), &info, sizeof info) > 0) {
            }
            PPDSM_TRY(reap());
        }
        if (!ended_ && (waits[0].revents & (POLLIN | POLLHUP)) != 0) {
            Result<WardenMessage> message = executor_.receive();
            if (!message && message.error().code() == Code::kUnavailable) return {};
            if (!message) return fail(message.error());
            PPDSM_TRY(handle(*std::move(message)));
            PPDSM_TRY(reap());  // A SIGCHLD merged into one of CRIU's is not lost.
        }
    }
    return {};
}

Status Warden::handle(WardenMessage message) {
    Status done;
    switch (message.type) {
        case Type::kStart: done = start(std::move(message)); break;
        case Type::kDump: done = dump(); break;
        case Type::kImageDirectory: done = give_image_directory(); break;
        case Type::kRestore: done = restore(std::move(message)); break;
        default: return fail(Code::kInvalid, "unknown request to the warden");
    }
    if (done) return {};
    // A program that ended under CRIU's hands has ended; that CRIU failed over it is no news.
    PPDSM_TRY(reap());
    if (ended_ || !end_reason_.empty()) return {};
    PPDSM_TRY(check_servers());
    const bool is_transient = done.error().code() == Code::kUnavailable;
    return executor_.send({Type::kFailed,
                           {is_transient ? 1U : 0U, 0},
                           done.error().message() + "\n" + log_tail(),
                           {}});
}

Status Warden::start(WardenMessage message) {
    PPDSM_ASSIGN(LaunchedTree tree, launch_tree(spec_, message.fds, privileged_));
    init_ = tree.init;
    return announce(Type::kStarted, std::move(tree.terminal));
}

Status Warden::announce(Type type, OwnedFd terminal) {
    WardenMessage started{type, {}, {}, {}};
    started.fds.emplace_back(static_cast<int>(::syscall(SYS_pidfd_open, init_, 0)));
    if (!started.fds.front().valid()) return fail_errno("hold the sandbox's init");
    if (terminal.valid()) started.fds.push_back(std::move(terminal));
    return executor_.send(started);
}

Status Warden::reap() {
    // Names first: the zombie's name carries the program's wait status (see init.c).
    siginfo_t info{};
    while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
        const pid_t pid = info.si_pid;
        const Result<std::string> name = read_text("/proc/" + std::to_string(pid) + "/comm");
        int status = 0;
        ::waitpid(pid, &status, 0);
        info = {};
        if (pid == servers_.root) return fail(Code::kUnavailable, "the root's server has died");
        if (pid == servers_.files) return fail(Code::kUnavailable, "the files' server has died");
        if (pid != init_) continue;
        PPDSM_TRY(check_servers());
        int program_status =
            SIGKILL;  // Killed before it could tell: its whole tree died by SIGKILL.
        const bool told = WIFEXITED(status) && name &&
                          std::sscanf(name->c_str(), "ppdsm:%d", &program_status) == 1;
        if (WIFEXITED(status) && !told) program_status = status;
        ended_ = true;
        PPDSM_TRY(executor_.send(
            {Type::kEnded,
             {static_cast<std::uint64_t>(program_status), static_cast<std::uint64_t>(status)},
             end_reason_,
             {}}));
    }
    return {};
}

/// A server that died has shown the program errors that it must not have seen: nothing that came
/// after may count. statfs(2) is never answered from the kernel's memory, and what is dead stays
/// dead.
Status Warden::check_servers() const {
    struct statfs info{};
    if (::statfs(kTreeRoot, &info) != 0) {
        return fail(Code::kUnavailable, "the sandbox's root is gone");
    }
    if (servers_.files != 0 && ::statfs(kFilesMount, &info) != 0) {
        return fail(Code::kUnavailable, "the owner's files are gone");
    }
    return {};
}

void Warden::end_tree(const std::string& why) {
    end_reason_ = why;
    if (init_ > 0) ::kill(init_, SIGKILL);
}

std::string Warden::image_path() const {
    return std::string(kImageRoot) + "/" + std::to_string(image_count_);
}

/// They lie in memory. The executor has read them, or they came from a dump that failed.
void Warden::remove_images() {
    std::error_code ignored;
    std::filesystem::remove_all(image_path(), ignored);
}

Result<OwnedFd> Warden::fresh_image_directory() {
    remove_images();
    ++image_count_;
    const std::string path = image_path();
    PPDSM_TRY(make_directories(path));
    return open_file(path, O_RDONLY | O_DIRECTORY);
}

CriuOptions Warden::criu_options(bool restoring) const {
    CriuOptions options;
    options.command = spec_.criu_command;
    options.images_fd = images_.get();
    options.orphan_terminal = spec_.terminal;
    options.unprivileged = !privileged_;
    if (!privileged_) return options;  // The tree's mounts are ours, CRIU has nothing to make.
    options.root = kTreeRoot;
    for (const SandboxMount& mount : spec_.mounts) {
        options.external.push_back(restoring ? "mnt[" + mount.key() + "]:" + prepared_path(mount)
                                             : "mnt[" + mount.target + "]:" + mount.key());
    }
    return options;
}

Status Warden::dump() {
    PPDSM_ASSIGN(images_, fresh_image_directory());
    Status cut;
    const Status dumped = criu_dump(criu_options(false), init_, [&](const CriuEvent& event) {
        if (event.name != "post-dump") return true;
        cut = check_servers();
        if (cut && !privileged_) cut = refuse_unseen_state();
        if (!cut) return false;
        cut = executor_.send({Type::kFrozen, {}, {}, {}}).and_then([&]() -> Status {
            PPDSM_ASSIGN(const WardenMessage answer, executor_.receive());
            if (answer.type != Type::kCutDone || answer.numbers[0] != 1) {
                return fail(Code::kUnavailable, "the cut was abandoned");
            }
            return {};
        });
        return cut.has_value();
    });
    if (!dumped && dumped.error().code() == Code::kUnavailable) {
        end_tree(dumped.error().message() + " in the middle of a checkpoint");
    }
    PPDSM_TRY(cut);
    PPDSM_TRY(dumped);
    WardenMessage message{Type::kDumped, {}, {}, {}};
    message.fds.emplace_back(::fcntl(images_.get(), F_DUPFD_CLOEXEC, 0));
    return executor_.send(message);
}

Status Warden::give_image_directory() {
    PPDSM_ASSIGN(images_, fresh_image_directory());
    WardenMessage message{Type::kImageDirectory, {}, {}, {}};
    message.fds.emplace_back(::fcntl(images_.get(), F_DUPFD_CLOEXEC, 0));
    return executor_.send(message);
}

Status Warden::restore(WardenMessage message) {
    CriuOptions options = criu_options(true);
    options.cgroups = spec_.tree_cgroups;
    std::istringstream keys(message.text);
    std::string key;
    for (std::size_t i = 0; i < message.fds.size() && std::getline(keys, key); ++i) {
        if (!key.empty()) options.inherit_fds.emplace_back(key, message.fds[i].get());
    }
    OwnedFd terminal;
    Status prepared;
    const Result<pid_t> restored = criu_restore(options, [&](CriuEvent event) {
        if (event.name == "orphan-pts-master") terminal = std::move(event.fd);
        if (event.name == "setup-namespaces" && !privileged_) {
            prepared = prepare_shared_restore(event.tree);
        }
        return prepared.has_value();
    });
    PPDSM_TRY(prepared);
    PPDSM_ASSIGN(init_, restored);
    remove_images();
    return announce(Type::kRestored, std::move(terminal));
}

std::string Warden::log_tail() const {
    if (!images_.valid()) return {};
    const Result<OwnedFd> log = open_file_at(images_, kCriuLogName, O_RDONLY);
    if (!log) return {};
    struct stat info{};
    if (::fstat(log->get(), &info) != 0) return {};
    const auto size = static_cast<std::size_t>(info.st_size);
    std::string tail(std::min(size, kLogTailBytes), '\0');
    const ssize_t got =
        ::pread(log->get(), tail.data(), tail.size(), static_cast<off_t>(size - tail.size()));
    tail.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return as_seen_inside(std::move(tail));
}

}  // namespace ppdsm
