// What a wait status means to us, said once.
#pragma once

#include <signal.h>
#include <sys/wait.h>

namespace ppdsm {

/// What a run ends with when ppdsm itself failed or ended it.
inline constexpr int kFailedExitCode = 125;

/// As a shell reports it: the program's own code, or 128 and the signal that killed it.
[[nodiscard]] inline int shell_exit_code(int wait_status) {
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

/// The death that may be undone: nothing a program does to itself by accident ends so.
[[nodiscard]] inline bool killed_by_sigkill(int wait_status) {
    return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL;
}

}  // namespace ppdsm
