// A daemon: forks twice, leaves the session, closes the standard streams and writes on for a while
// after the program that was started has exited with 0.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common.h"

static void become_daemon(void) {
    REQUIRE(setsid() != -1);
    const pid_t daemon_pid = fork();
    REQUIRE(daemon_pid != -1);
    if (daemon_pid != 0) _exit(0);
    umask(022);
    const int null = open("/dev/null", O_RDWR);
    REQUIRE(null != -1);
    for (int fd = 0; fd < 3; ++fd) REQUIRE(dup2(null, fd) == fd);
    if (null > 2) close(null);
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 20);
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child != 0) {
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        say("started the daemon, %d", WEXITSTATUS(status));
        return 0;
    }
    become_daemon();
    const int file = open("daemon.partial", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    REQUIRE(file != -1);
    uint64_t state = 19;
    for (int round = 0; round < rounds; ++round) {
        REQUIRE(dprintf(file, "round %d %016llx\n", round,
                        (unsigned long long)next_random(&state)) > 0);
        pace_ms(50);
    }
    REQUIRE(rename("daemon.partial", "daemon.txt") == 0);
    return 0;
}
