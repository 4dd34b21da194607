// static_counter [SECONDS]: linked statically; counts and sums.
#include "common.h"

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 50);
    uint64_t state = 23, sum = kSumStart;
    for (int round = 0; round < rounds; ++round) {
        const uint64_t value = next_random(&state);
        sum = checksum(sum, &value, sizeof value);
        say("count %d sum %016llx", round, (unsigned long long)sum);
        pace_ms(20);
    }
    return 0;
}
