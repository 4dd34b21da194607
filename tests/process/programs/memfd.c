// A file that lives in memory only: written and mapped, shared with a child, grown and sealed.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "common.h"

enum { kSize = 1 << 18, kPiece = 500 };

// Appends its lines after the parent's piece of the same round; the pipe gives the turn.
static void append_lines(int fd, int turn, int done) {
    char round;
    while (read_full(turn, &round, 1) == 1) {
        REQUIRE(dprintf(fd, "child %d\n", round) > 0);
        write_full(done, &round, 1);
    }
    _exit(5);
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 40);
    const int fd = memfd_create("test", MFD_ALLOW_SEALING);
    REQUIRE(fd != -1);
    REQUIRE(ftruncate(fd, kSize) == 0);
    unsigned char* mapped = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(mapped != MAP_FAILED);
    int turn[2], done[2];
    REQUIRE(pipe(turn) == 0 && pipe(done) == 0);
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) {
        close(turn[1]);
        append_lines(fd, turn[0], done[1]);
    }
    close(turn[0]), close(done[1]);
    uint64_t state = 13;
    for (int round = 0; round < rounds; ++round) {
        char number = (char)(round % 100);
        write_full(turn[1], &number, 1);
        REQUIRE(read_full(done[0], &number, 1) == 1);
        unsigned char piece[kPiece];
        fill_random(piece, sizeof piece, &state);
        write_full(fd, piece, sizeof piece);
        mapped[next_random(&state) % kSize] ^= piece[0];
        say("round %d at %ld sum %016llx", round, (long)lseek(fd, 0, SEEK_CUR),
            (unsigned long long)checksum(kSumStart, mapped, kSize));
        pace_ms(25);
    }
    close(turn[1]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    say("child %d seals %d shrink refused %d", WEXITSTATUS(status), fcntl(fd, F_GET_SEALS),
        ftruncate(fd, 0) == -1);
    return 0;
}
