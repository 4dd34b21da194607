// page_toucher MIB PERCENT [signal]: holds MIB of memory that does not compress and rewrites
// PERCENT of its pages, spread evenly over all of it: every second, a little each 10 ms; or, with
// "signal", all at once at each SIGUSR1. Runs until it is killed.
//
// Its process name tells how far it is, without a file or a pipe that a checkpoint would have to
// carry: "filling", then "round 0", "round 1" ... after each SIGUSR1. On its standard output it
// writes a line "gap_ms N" whenever its clock jumped by more than 5 ms: what a freeze looks like
// from inside. A line "away_ms N" is the same by the wall's clock, which goes on while the program
// is between two machines.
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { kWords = 4096 / sizeof(uint64_t) };
// Odd, near the golden section of 2^32: consecutive multiples lie far apart and none comes back
// before all have come, where the number of pages is a power of two.
static const uint64_t kStride = 2654435769U;
static const long kGapUs = 5000;

static uint64_t (*memory)[kWords];
static uint64_t pages;
static uint64_t touched;
static uint64_t state = 1;
static volatile sig_atomic_t asked;

static void on_signal(int signal) {
    (void)signal;
    ++asked;
}

static uint64_t next_random(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static void fill(uint64_t page) {
    for (int word = 0; word < kWords; ++word) memory[page][word] = next_random();
}

static void touch(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) fill(touched++ * kStride % pages);
}

static long now_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void tell_round(int round) {
    char name[20];  // The kernel keeps the first 15 characters.
    snprintf(name, sizeof name, "round %d", round);
    prctl(PR_SET_NAME, name);
}

static void tell_jump(const char* what, long us) {
    char line[64];
    const int size = snprintf(line, sizeof line, "%s %.3f\n", what, (double)us / 1e3);
    if (write(STDOUT_FILENO, line, (size_t)size) < 0 && errno != EAGAIN) _exit(1);
}

// Sleeps `us` in short pieces, so that a jump of the clock shows.
static void watch_clock(long us) {
    static long last_wall;
    if (last_wall == 0) last_wall = now_us(CLOCK_REALTIME);
    const long end = now_us(CLOCK_MONOTONIC) + us;
    for (long last = now_us(CLOCK_MONOTONIC); last < end;) {
        const struct timespec piece = {0, 200000};
        nanosleep(&piece, NULL);
        const long now = now_us(CLOCK_MONOTONIC);
        const long wall = now_us(CLOCK_REALTIME);
        if (now - last > kGapUs) tell_jump("gap_ms", now - last);
        if (wall - last_wall > kGapUs) tell_jump("away_ms", wall - last_wall);
        last = now;
        last_wall = wall;
    }
}

int main(int argc, char** argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: page_toucher MIB PERCENT [signal]\n");
        return 2;
    }
    pages = strtoull(argv[1], NULL, 10) << 8;
    const double percent = strtod(argv[2], NULL);
    const int by_signal = argc > 3 && strcmp(argv[3], "signal") == 0;
    const uint64_t a_second = (uint64_t)((double)pages * percent / 100 + 0.5);
    prctl(PR_SET_NAME, "filling");
    signal(SIGUSR1, on_signal);
    memory = mmap(NULL, pages * sizeof *memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    if (memory == MAP_FAILED) {
        perror("page_toucher: mmap");
        return 1;
    }
    for (uint64_t page = 0; page < pages; ++page) fill(page);
    int round = 0;
    tell_round(round);
    for (uint64_t tick = 0;; ++tick) {
        watch_clock(10000);
        if (!by_signal) {
            // This tick's share; the hundred ticks of a second add up to the whole.
            touch((tick + 1) * a_second / 100 - tick * a_second / 100);
        } else if (round < asked) {
            touch(a_second);
            tell_round(++round);
        }
    }
}
