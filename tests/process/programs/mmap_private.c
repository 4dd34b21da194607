// Private mappings: a file mapped copy-on-write whose changes must stay in memory, an anonymous
// area that grows, has holes punched and pages protected, and a fork that sees its own copy.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "common.h"

enum { kPages = 64, kPage = 4096 };

static uint64_t file_sum(int fd) {
    static unsigned char data[kPages * kPage];
    REQUIRE(pread(fd, data, sizeof data, 0) == (ssize_t)sizeof data);
    return checksum(kSumStart, data, sizeof data);
}

static int copy_in_child(unsigned char* memory, int round) {
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) {
        memory[0] = (unsigned char)(memory[0] + round);
        _exit(memory[0] % 100);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 40);
    uint64_t state = 9;
    static unsigned char data[kPages * kPage];
    fill_random(data, sizeof data, &state);
    const int fd = open("private.dat", O_RDWR | O_CREAT | O_TRUNC, 0644);
    REQUIRE(fd != -1);
    write_full(fd, data, sizeof data);
    unsigned char* copy = mmap(NULL, sizeof data, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    size_t size = kPages * kPage;
    unsigned char* area =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(copy != MAP_FAILED && area != MAP_FAILED);
    for (int round = 0; round < rounds; ++round) {
        const size_t page = next_random(&state) % kPages * kPage;
        fill_random(copy + page, kPage, &state);
        REQUIRE(mprotect(area + page, kPage, PROT_READ | PROT_WRITE) == 0);
        memcpy(area + page, copy + page, kPage);
        REQUIRE(mprotect(area + page, kPage, PROT_READ) == 0);
        const size_t hole = next_random(&state) % kPages * kPage;
        REQUIRE(mprotect(area + hole, kPage, PROT_READ | PROT_WRITE) == 0);
        REQUIRE(madvise(area + hole, kPage, MADV_DONTNEED) == 0);
        // Restored to one protection first: mremap moves a single mapping only.
        REQUIRE(mprotect(area, size, PROT_READ | PROT_WRITE) == 0);
        area = mremap(area, size, size + kPage, MREMAP_MAYMOVE);
        REQUIRE(area != MAP_FAILED);
        area[size] = (unsigned char)round;
        size += kPage;
        say("round %d child %d copy %016llx area %016llx file %016llx", round,
            copy_in_child(copy, round), (unsigned long long)checksum(kSumStart, copy, sizeof data),
            (unsigned long long)checksum(kSumStart, area, size), (unsigned long long)file_sum(fd));
        pace_ms(20);
    }
    return 0;
}
