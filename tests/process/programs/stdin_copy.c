// stdin_copy [MS_PER_BLOCK]: copies standard input to standard output, slowly, then prints how much
// it was and its checksum.
#include "common.h"

int main(int argc, char** argv) {
    const long pause_ms = argc > 1 ? atol(argv[1]) : 20;
    static unsigned char block[4096];
    uint64_t sum = kSumStart;
    unsigned long long total_bytes = 0;
    size_t got;
    while ((got = read_full(0, block, sizeof block)) > 0) {
        sum = checksum(sum, block, got);
        total_bytes += got;
        write_full(1, block, got);
        pace_ms(pause_ms);
    }
    say("copied %llu bytes %016llx", total_bytes, (unsigned long long)sum);
    return 0;
}
