#include "criu-glue/criu/tool_output.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <utility>

#include "dsm/base/owned_fd.h"

namespace ppdsm {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kOutputLimitBytes = std::size_t{64} << 10;

Result<pid_t> spawn(const std::vector<std::string>& command, const OwnedFd& output) {
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output.get(), STDERR_FILENO);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);

    pid_t pid = -1;
    const int failure =
        ::posix_spawnp(&pid, arguments.front(), &actions, &attributes, arguments.data(), environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) return fail(Error::from_errno("start " + command.front(), failure));
    return pid;
}

/// Reads until the end of file; false when the deadline came first.
bool collect(const OwnedFd& from, Clock::time_point deadline, std::string& into) {
    std::array<char, 4096> piece;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
        if (left.count() <= 0) return false;
        pollfd readable{from.get(), POLLIN, 0};
        const int ready = ::poll(&readable, 1, static_cast<int>(left.count()) + 1);
        if (ready < 0 && errno == EINTR) continue;
        if (ready == 0) continue;
        const ssize_t got = ::read(from.get(), piece.data(), piece.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return true;
        const std::size_t room = kOutputLimitBytes - into.size();
        into.append(piece.data(), std::min(room, static_cast<std::size_t>(got)));
    }
}

}  // namespace

Result<ToolOutput> run_tool(const std::vector<std::string>& command,
                            std::chrono::milliseconds limit) {
    if (command.empty()) return fail(Code::kInvalid, "run a tool: empty command");
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe for " + command.front());
    const OwnedFd read_end(ends[0]);
    OwnedFd write_end(ends[1]);
    PPDSM_ASSIGN(const pid_t pid, spawn(command, write_end));
    write_end.reset();

    ToolOutput result;
    const bool ended = collect(read_end, Clock::now() + limit, result.output);
    if (!ended) ::kill(-pid, SIGKILL);
    // A tool that has closed its output is about to end; one that lingers is not worth waiting for.
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) return fail_errno("wait for " + command.front());
    }
    if (!ended) {
        return fail(Code::kUnavailable, command.front() + " gave no answer within " +
                                            std::to_string(limit.count()) + " ms");
    }
    result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return result;
}

}  // namespace ppdsm
