// large_memory [SECONDS [MIB]]: much memory, its pages rewritten in pseudo-random order; the sum of
// every page is printed each round. The contents do not compress.
#include <sys/mman.h>

#include "common.h"

enum { kWords = 4096 / sizeof(uint64_t) };

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 15);
    const size_t mib = argc > 2 ? (size_t)atol(argv[2]) : 64;
    const size_t pages = mib * 256;
    uint64_t(*memory)[kWords] = mmap(NULL, pages * sizeof *memory, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    uint64_t state = 1;
    for (size_t page = 0; page < pages; ++page) {
        for (size_t word = 0; word < kWords; ++word) memory[page][word] = next_random(&state);
    }
    for (int round = 0; round < rounds; ++round) {
        for (size_t touch = 0; touch < pages / 8; ++touch) {
            uint64_t* page = memory[next_random(&state) % pages];
            for (size_t word = 0; word < kWords; ++word) page[word] = page[word] * 3 + state;
        }
        uint64_t sum = 0;
        for (size_t page = 0; page < pages; ++page) {
            for (size_t word = 0; word < kWords; ++word) sum = sum * 31 + memory[page][word];
        }
        say("round %d sum %016llx", round, (unsigned long long)sum);
        pace_ms(40);
    }
    return 0;
}
