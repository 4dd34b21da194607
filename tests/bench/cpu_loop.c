// cpu_loop MILLIONS: so many million rounds of arithmetic and of look-ups in a table that fits the
// second-level cache; prints what came out. Its time is all computation: what a run under ppdsm
// takes longer than a plain one is what ppdsm costs.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { kWords = 1 << 15 };

static uint64_t table[kWords];

int main(int argc, char** argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: cpu_loop MILLIONS\n");
        return 2;
    }
    const uint64_t rounds = strtoull(argv[1], NULL, 10) * 1000000;
    uint64_t state = 0x9e3779b97f4a7c15ULL;
    for (uint64_t i = 0; i < rounds; ++i) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint64_t* word = &table[state % kWords];
        *word = (*word + state) * 0xbf58476d1ce4e5b9ULL;
        state += *word >> 32;
    }
    printf("%016" PRIx64 "\n", state);
    return 0;
}
