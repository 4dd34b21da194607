// Trees of processes: each round forks two levels of three, whose exit codes travel up, beside a
// zombie that stays unreaped over a pause. The pids are compared too: a checkpoint keeps them.
#include <sys/wait.h>

#include "common.h"

enum { kFan = 3, kLevels = 2 };

static int code_of(pid_t child) {
    int status = 0;
    pid_t reaped;
    do {
        reaped = waitpid(child, &status, 0);
    } while (reaped == -1 && errno == EINTR);
    REQUIRE(reaped == child);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

// Runs the subtree of `path` and returns its code: a number that every node of it entered.
static int grow(int level, unsigned path) {
    const pid_t self = getpid();
    if (level == 0) {
        pace_ms(40 + (long)(path % 7) * 10);
        REQUIRE(getpid() == self);
        return (int)(path * 37 % 90);
    }
    pid_t children[kFan];
    for (unsigned i = 0; i < kFan; ++i) {
        children[i] = fork();
        REQUIRE(children[i] != -1);
        if (children[i] == 0) {
            REQUIRE(getppid() == self);
            _exit(grow(level - 1, path * kFan + i + 1));
        }
    }
    int code = (int)(path % 11);
    for (int i = 0; i < kFan; ++i) code = (code * 3 + code_of(children[i])) % 90;
    REQUIRE(getpid() == self);
    return code;
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 6);
    const pid_t self = getpid();
    for (int round = 0; round < rounds; ++round) {
        const pid_t zombie = fork();
        REQUIRE(zombie != -1);
        if (zombie == 0) _exit(round % 90);
        const int tree = grow(kLevels, (unsigned)round);
        pace_ms(60);
        const int late = code_of(zombie);
        say("round %d tree %d zombie %d pid kept %d", round, tree, late, getpid() == self);
    }
    REQUIRE(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    return 0;
}
