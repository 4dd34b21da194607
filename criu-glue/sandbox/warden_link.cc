#include "criu-glue/sandbox/warden_link.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dsm/base/files.h"
#include "dsm/base/packet_socket.h"

namespace ppdsm {

namespace {

constexpr int kSocketFd = 3;
constexpr int kSpecFd = 4;
constexpr int kFilesFd = 5;
constexpr int kAboveFds = 16;  // Out of the way of the numbers above while they are placed.

/// Between fork and exec in a process that may have threads: system calls only.
[[noreturn]] void execute_warden(const char* path, int socket, int spec, int files) {
    const int high_socket = ::fcntl(socket, F_DUPFD, kAboveFds);
    const int high_spec = ::fcntl(spec, F_DUPFD, kAboveFds);
    const int high_files = files < 0 ? -1 : ::fcntl(files, F_DUPFD, kAboveFds);
    ::dup2(high_socket, kSocketFd);
    ::dup2(high_spec, kSpecFd);
    if (high_files >= 0) ::dup2(high_files, kFilesFd);
    ::close_range(high_files >= 0 ? kFilesFd + 1 : kSpecFd + 1, ~0U, 0);
    ::setsid();  // The terminal's signals reach the program through the executor only.
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    char* argv[] = {const_cast<char*>(path), nullptr};
    ::execv(path, argv);
    _exit(127);
}

}  // namespace

Result<WardenLink> WardenLink::spawn(const std::filesystem::path& executable,
                                     const SandboxSpec& spec, OwnedFd files) {
    if (spec.file_roots.empty() == files.valid()) {
        return fail(Code::kInvalid, "file roots and the channel for them come together");
    }
    PPDSM_ASSIGN(auto ends, make_packet_pair());
    MessageSocket ours{std::move(ends.first)};
    OwnedFd theirs = std::move(ends.second);
    const OwnedFd description(::memfd_create("ppdsm-sandbox", MFD_CLOEXEC));
    if (!description.valid()) return fail_errno("hold the sandbox's description");
    PPDSM_TRY(write_all(description, as_bytes(encode_spec(spec))));
    if (::access(executable.c_str(), X_OK) != 0) return fail_errno("start " + executable.string());
    const pid_t pid = ::fork();
    if (pid < 0) return fail_errno("fork for the warden");
    if (pid == 0) execute_warden(executable.c_str(), theirs.get(), description.get(), files.get());
    theirs.reset();
    files.reset();
    Result<WardenMessage> first = ours.receive();
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!first) return fail(first.error().within("start " + executable.string()));
    if (first->type != WardenMessage::Type::kReady) {
        return fail(Code::kUnsupported, "the sandbox cannot be made: " + first->text);
    }
    return WardenLink(std::move(ours), std::move(first->fds.front()));
}

void WardenLink::kill() { ::syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0); }

WardenLink::~WardenLink() {
    if (!process_.valid()) return;
    kill();
    siginfo_t info{};
    while (::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &info, WEXITED | __WALL) < 0 &&
           errno == EINTR) {
    }
}

}  // namespace ppdsm
