// An open file without a name: written, unlinked, then read and written on through two descriptors
// that share an offset and one that does not.
#include <fcntl.h>

#include "common.h"

enum { kSize = 256 * 1024, kPiece = 3000 };

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 40);
    static unsigned char data[kSize];
    uint64_t state = 5;
    fill_random(data, sizeof data, &state);
    const int fd = open("nameless.tmp", O_RDWR | O_CREAT | O_EXCL, 0600);
    REQUIRE(fd != -1);
    const int shared = dup(fd);
    const int apart = open("nameless.tmp", O_RDONLY);
    REQUIRE(shared != -1 && apart != -1);
    write_full(fd, data, sizeof data);
    REQUIRE(unlink("nameless.tmp") == 0);
    REQUIRE(lseek(fd, 0, SEEK_SET) == 0);

    for (int round = 0; round < rounds; ++round) {
        unsigned char piece[kPiece];
        fill_random(piece, sizeof piece, &state);
        write_full(round % 2 == 0 ? fd : shared, piece, sizeof piece);
        const off_t offset = lseek(shared, 0, SEEK_CUR);
        if (offset > kSize) REQUIRE(lseek(fd, (off_t)(next_random(&state) % 1000), SEEK_SET) >= 0);
        const size_t got = read_full(apart, data, kPiece * 2);
        if (got < kPiece * 2) REQUIRE(lseek(apart, 0, SEEK_SET) == 0);
        uint64_t sum = checksum(kSumStart, data, got);
        const ssize_t whole = pread(fd, data, sizeof data, 0);
        REQUIRE(whole == (ssize_t)sizeof data);
        sum = checksum(sum, data, sizeof data);
        say("round %d offset %ld apart %ld sum %016llx", round, (long)offset,
            (long)lseek(apart, 0, SEEK_CUR), (unsigned long long)sum);
        pace_ms(25);
    }
    REQUIRE(access("nameless.tmp", F_OK) == -1);
    return 0;
}
