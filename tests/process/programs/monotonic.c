// monotonic [SECONDS [MAX_STEP_SECONDS]]: the monotonic clocks never go back and never run away:
// between two looks 20 ms apart at most MAX_STEP_SECONDS pass, however long the program lay
// stopped.
#include "common.h"

static double now_s(clockid_t clock) {
    struct timespec now;
    REQUIRE(clock_gettime(clock, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 50);
    const double max_step_s = argc > 2 ? atof(argv[2]) : 8.0;
    const clockid_t clocks[2] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    const char* names[2] = {"monotonic", "boottime"};
    double before_s[2] = {now_s(clocks[0]), now_s(clocks[1])};
    int faults = 0;
    for (int round = 0; round < rounds; ++round) {
        pace_ms(20);
        for (int i = 0; i < 2; ++i) {
            const double step_s = now_s(clocks[i]) - before_s[i];
            before_s[i] += step_s;
            if (step_s > 0 && step_s <= max_step_s) continue;
            ++faults;
            say("%s clock moved by %.3f s in round %d", names[i], step_s, round);
        }
        if (round % 10 == 0) say("round %d faults %d", round, faults);
    }
    say("end faults %d", faults);
    return faults == 0 ? 0 : 1;
}
