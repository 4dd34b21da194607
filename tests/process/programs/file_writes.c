// Files written in every common way: appended to, changed in place, replaced by rename, truncated,
// linked, removed. Their final state is compared; a roll-back that forgot one shows in the sums.
#include <fcntl.h>
#include <sys/stat.h>

#include "common.h"

enum { kSize = 200 * 1000 };

static uint64_t sum_of(const char* name) {
    static unsigned char data[1 << 20];
    const int fd = open(name, O_RDONLY);
    REQUIRE(fd != -1);
    const size_t size = read_full(fd, data, sizeof data);
    close(fd);
    return checksum(kSumStart, data, size);
}

static void replace(const char* name, int round) {
    const int fd = open("replaced.new", O_WRONLY | O_CREAT | O_TRUNC, 0640);
    REQUIRE(fd != -1);
    REQUIRE(dprintf(fd, "version %d\n", round) > 0);
    REQUIRE(fsync(fd) == 0);
    close(fd);
    REQUIRE(rename("replaced.new", name) == 0);
}

// Directories, links and removals, one round apart.
static void change_names(int round) {
    char name[64], before[64];
    snprintf(name, sizeof name, "dir/entry-%d", round);
    snprintf(before, sizeof before, "dir/entry-%d", round - 2);
    REQUIRE(mkdir("dir", 0750) == 0 || errno == EEXIST);
    if (round % 3 == 0) {
        REQUIRE(symlink("../append.log", name) == 0);
    } else if (round % 3 == 1) {
        REQUIRE(mkdir(name, 0700) == 0);
    } else {
        REQUIRE(link("inplace.dat", name) == 0);
        REQUIRE(unlink(before) == 0);  // The symbolic link of two rounds ago.
    }
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 30);
    if (access("given.txt", F_OK) == 0) {
        say("given %016llx", (unsigned long long)sum_of("given.txt"));
        REQUIRE(unlink("given.txt") == 0);
    }
    const int log = open("append.log", O_WRONLY | O_CREAT | O_APPEND, 0644);
    const int data = open("inplace.dat", O_RDWR | O_CREAT | O_TRUNC, 0600);
    const int cut = open("cut.dat", O_RDWR | O_CREAT | O_TRUNC, 0644);
    REQUIRE(log != -1 && data != -1 && cut != -1);
    REQUIRE(ftruncate(data, kSize) == 0);
    uint64_t state = 17;
    for (int round = 0; round < rounds; ++round) {
        unsigned char piece[1000];
        fill_random(piece, sizeof piece, &state);
        REQUIRE(dprintf(log, "round %d %016llx\n", round, (unsigned long long)state) > 0);
        const off_t offset = (off_t)(next_random(&state) % (kSize - sizeof piece));
        REQUIRE(pwrite(data, piece, sizeof piece, offset) == (ssize_t)sizeof piece);
        write_full(cut, piece, sizeof piece);
        if (round % 7 == 6) {
            REQUIRE(ftruncate(cut, 333) == 0);
            REQUIRE(lseek(cut, 0, SEEK_END) == 333);
        }
        replace("replaced.txt", round);
        change_names(round);
        say("round %d append %016llx inplace %016llx cut %016llx replaced %016llx", round,
            (unsigned long long)sum_of("append.log"), (unsigned long long)sum_of("inplace.dat"),
            (unsigned long long)sum_of("cut.dat"), (unsigned long long)sum_of("replaced.txt"));
        pace_ms(30);
    }
    return 0;
}
