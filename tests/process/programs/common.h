// What the test programs share. Each program shows one behaviour of the kernel that a checkpoint
// must carry, takes [SECONDS] as its first argument, and prints a running account from which any
// lost, repeated or altered state shows: its output depends on its arguments only, never on timing.
// They sleep to last long enough for a kill to fall inside, never to order two processes.
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// A failed step names itself and ends the process with a code that no program uses otherwise.
#define REQUIRE(condition)                                                                  \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            dprintf(2, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno)); \
            _exit(99);                                                                      \
        }                                                                                   \
    } while (0)

// How long the program is asked to run; it is only a measure for the number of its rounds.
static inline double seconds_asked(int argc, char** argv, double by_default) {
    return argc > 1 ? atof(argv[1]) : by_default;
}

static inline int rounds_asked(int argc, char** argv, int rounds_per_second) {
    const int rounds = (int)(seconds_asked(argc, argv, 2.5) * rounds_per_second);
    return rounds > 0 ? rounds : 1;
}

// Sleeps the whole time, also when signals or a freeze interrupt it.
static inline void pace_ms(long ms) {
    struct timespec left;
    left.tv_sec = ms / 1000;
    left.tv_nsec = ms % 1000 * 1000000L;
    while (nanosleep(&left, &left) == -1 && errno == EINTR) {
    }
}

static inline uint64_t next_random(uint64_t* state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

// FNV-1a over bytes, to be continued: start with sum = kSumStart.
static const uint64_t kSumStart = 0xcbf29ce484222325ULL;
static inline uint64_t checksum(uint64_t sum, const void* data, size_t size_bytes) {
    const unsigned char* bytes = (const unsigned char*)data;
    for (size_t i = 0; i < size_bytes; ++i) sum = (sum ^ bytes[i]) * 0x100000001b3ULL;
    return sum;
}

static inline void fill_random(void* data, size_t size_bytes, uint64_t* state) {
    unsigned char* bytes = (unsigned char*)data;
    for (size_t i = 0; i < size_bytes; ++i) {
        bytes[i] = (unsigned char)(next_random(state) & 0xff);
    }
}

static inline void write_full(int fd, const void* data, size_t size_bytes) {
    const char* bytes = (const char*)data;
    while (size_bytes > 0) {
        const ssize_t done = write(fd, bytes, size_bytes);
        if (done == -1 && errno == EINTR) continue;
        REQUIRE(done > 0);
        bytes += done;
        size_bytes -= (size_t)done;
    }
}

// Reads up to size_bytes, fewer only at the end of the stream.
static inline size_t read_full(int fd, void* data, size_t size_bytes) {
    char* bytes = (char*)data;
    size_t got = 0;
    while (got < size_bytes) {
        const ssize_t done = read(fd, bytes + got, size_bytes - got);
        if (done == -1 && errno == EINTR) continue;
        REQUIRE(done >= 0);
        if (done == 0) break;
        got += (size_t)done;
    }
    return got;
}

// One line, one write: nothing waits in a buffer that a fork would copy or a signal cut short.
__attribute__((format(printf, 1, 2))) static inline void say(const char* format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    REQUIRE(size >= 0 && size < (int)sizeof line - 1);
    line[size++] = '\n';
    write_full(1, line, (size_t)size);
}
