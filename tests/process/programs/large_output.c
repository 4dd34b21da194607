// large_output BYTES: that many pseudo-random bytes on standard output, as fast as they are taken.
#include "common.h"

int main(int argc, char** argv) {
    REQUIRE(argc == 2);
    unsigned long long left = strtoull(argv[1], NULL, 10);
    static uint64_t block[8192];
    uint64_t state = 29;
    while (left > 0) {
        for (size_t i = 0; i < sizeof block / sizeof block[0]; ++i) block[i] = next_random(&state);
        const size_t size = left < sizeof block ? (size_t)left : sizeof block;
        write_full(1, block, size);
        left -= size;
    }
    return 0;
}
