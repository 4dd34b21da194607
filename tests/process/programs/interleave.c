// Both output streams in turn, in lines and in single bytes: each must arrive whole, on its own
// side.
#include "common.h"

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 50);
    for (int round = 0; round < rounds; ++round) {
        say("out %d", round);
        dprintf(2, "err %d\n", round * 7);
        for (int i = 0; i < 20; ++i) {
            const char letter = (char)('a' + (round + i) % 26);
            write_full(i % 2 == 0 ? 1 : 2, &letter, 1);
        }
        write_full(1, "\n", 1);
        write_full(2, "\n", 1);
        pace_ms(20);
    }
    return 4;
}
