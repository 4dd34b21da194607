// exit_with code N [SECONDS] | exit_with signal N [SECONDS]: ends so, and prints nothing.
#include <signal.h>
#include <sys/resource.h>

#include "common.h"

int main(int argc, char** argv) {
    REQUIRE(argc > 2);
    const int number = atoi(argv[2]);
    if (argc > 3) pace_ms((long)(atof(argv[3]) * 1000));
    if (strcmp(argv[1], "code") == 0) return number;
    const struct rlimit no_core = {0, 0};
    REQUIRE(setrlimit(RLIMIT_CORE, &no_core) == 0);
    signal(number, SIG_DFL);
    REQUIRE(raise(number) == 0);
    return 98;  // The signal did not kill.
}
