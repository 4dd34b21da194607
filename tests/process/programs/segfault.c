// segfault [SECONDS]: counts, then writes through a null pointer.
#include <sys/resource.h>

#include "common.h"

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 20);
    const struct rlimit no_core = {0, 0};  // A core file would be one difference too many.
    REQUIRE(setrlimit(RLIMIT_CORE, &no_core) == 0);
    for (int round = 0; round < rounds; ++round) {
        say("round %d", round);
        pace_ms(50);
    }
    volatile int* volatile nowhere = NULL;
    *nowhere = 1;
    return 0;
}
