// Descriptors and what hangs on them: an offset shared over fork, a fifo with bytes under way, an
// flock held, a record lock that a child finds taken, close-on-exec and non-blocking flags.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common.h"

static int run_child(int shared, int other, int round) {
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) {
        REQUIRE(dprintf(shared, "child %d\n", round) > 0);
        struct flock lock;
        memset(&lock, 0, sizeof lock);
        lock.l_type = F_WRLCK;
        lock.l_len = 10;
        REQUIRE(fcntl(shared, F_GETLK, &lock) == 0);
        const int record_taken = lock.l_type == F_WRLCK && lock.l_pid == getppid();
        const int whole_taken = flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK;
        _exit(record_taken + 2 * whole_taken);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 30);
    const int shared = open("shared.txt", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    const int locked = open("locked.txt", O_RDWR | O_CREAT, 0644);
    const int other = open("locked.txt", O_RDWR);
    REQUIRE(mkfifo("fifo", 0600) == 0);
    const int fifo = open("fifo", O_RDWR | O_NONBLOCK);
    REQUIRE(shared != -1 && locked != -1 && other != -1 && fifo != -1);
    REQUIRE(flock(locked, LOCK_EX) == 0);
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_len = 10;
    REQUIRE(fcntl(shared, F_SETLK, &lock) == 0);
    for (int round = 0; round < rounds; ++round) {
        REQUIRE(dprintf(shared, "parent %d\n", round) > 0);
        write_full(fifo, &round, sizeof round);
        const int taken = run_child(shared, other, round);
        pace_ms(30);
        int back = -1;
        REQUIRE(read(fifo, &back, sizeof back) == (ssize_t)sizeof back);
        REQUIRE(read(fifo, &back, 1) == -1 && errno == EAGAIN);
        say("round %d offset %ld fifo %d locks %d flags %d %d", round,
            (long)lseek(shared, 0, SEEK_CUR), back, taken, fcntl(shared, F_GETFD),
            (fcntl(fifo, F_GETFL) & O_NONBLOCK) != 0);
    }
    REQUIRE(unlink("fifo") == 0);
    return 0;
}
