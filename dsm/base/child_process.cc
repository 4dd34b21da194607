#include "dsm/base/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace ppdsm {

namespace {

constexpr int kSocketFd = 3;

}  // namespace

Result<ChildProcess> ChildProcess::start(const std::filesystem::path& executable,
                                         const std::vector<std::string>& arguments,
                                         const OwnedFd& socket, const OwnedFd& log) {
    std::vector<std::string> words{executable.string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (log.valid()) {
        posix_spawn_file_actions_adddup2(&actions, log.get(), STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, log.get(), STDERR_FILENO);
    }
    posix_spawn_file_actions_adddup2(&actions, socket.get(), kSocketFd);
    posix_spawn_file_actions_addclosefrom_np(&actions, kSocketFd + 1);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    pid_t pid = 0;
    const int started =
        ::posix_spawn(&pid, executable.c_str(), &actions, &attributes, argv.data(), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (started != 0) return fail(Error::from_errno("start " + executable.string(), started));
    OwnedFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!pidfd.valid()) {
        const Error why = Error::from_errno("hold " + executable.string());
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        return fail(why);
    }
    return ChildProcess(pid, std::move(pidfd));
}

void ChildProcess::kill() {
    if (pidfd_.valid()) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
}

int ChildProcess::wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pidfd_.reset();
    return status;
}

ChildProcess::~ChildProcess() {
    if (!pidfd_.valid()) return;
    kill();
    (void)wait();
}

}  // namespace ppdsm
