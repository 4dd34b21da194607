// Threads that sleep on futexes: two play ping-pong through a mutex and condition variables, three
// meet at barriers and mix a shared table. A lost wake-up hangs, a lost update changes the sums.
#include <pthread.h>

#include "common.h"

enum { kMixers = 3, kCells = 4096 };
static int g_rounds;
static pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t g_changed = PTHREAD_COND_INITIALIZER;
static uint64_t g_ball;  // Even: ping's turn; odd: pong's.
static pthread_barrier_t g_barrier;
static uint64_t g_cells[kMixers][kCells];
static __thread uint64_t t_own_state;

static void* play(void* which) {
    const uint64_t parity = (uint64_t)(uintptr_t)which;
    for (int i = 0; i < g_rounds * 20; ++i) {
        pthread_mutex_lock(&g_mutex);
        while (g_ball % 2 != parity) pthread_cond_wait(&g_changed, &g_mutex);
        ++g_ball;
        pthread_cond_broadcast(&g_changed);
        pthread_mutex_unlock(&g_mutex);
        if (i % 20 == 0) pace_ms(10);
    }
    return NULL;
}

// Each mixer reads its neighbour's row of the round before, so that the order must be kept.
static void* mix(void* which) {
    const size_t own = (size_t)(uintptr_t)which;
    t_own_state = own + 1;
    for (int i = 0; i < g_rounds; ++i) {
        uint64_t sum = kSumStart;
        sum = checksum(sum, g_cells[(own + 1) % kMixers], sizeof g_cells[0]);
        pthread_barrier_wait(&g_barrier);
        for (size_t cell = 0; cell < kCells; ++cell) {
            g_cells[own][cell] += sum ^ next_random(&t_own_state);
        }
        pthread_barrier_wait(&g_barrier);
        if (own == 0) say("round %d mixed %016llx", i, (unsigned long long)sum);
        pace_ms(20);
    }
    return (void*)(uintptr_t)(t_own_state & 0xffffff);
}

int main(int argc, char** argv) {
    g_rounds = rounds_asked(argc, argv, 40);
    REQUIRE(pthread_barrier_init(&g_barrier, NULL, kMixers) == 0);
    pthread_t threads[kMixers + 2];
    for (uintptr_t i = 0; i < kMixers; ++i) {
        REQUIRE(pthread_create(&threads[i], NULL, mix, (void*)i) == 0);
    }
    for (uintptr_t i = 0; i < 2; ++i) {
        REQUIRE(pthread_create(&threads[kMixers + i], NULL, play, (void*)i) == 0);
    }
    for (int i = 0; i < kMixers + 2; ++i) {
        void* result = NULL;
        REQUIRE(pthread_join(threads[i], &result) == 0);
        say("thread %d ended with %lx", i, (unsigned long)(uintptr_t)result);
    }
    say("ball %llu", (unsigned long long)g_ball);
    return 0;
}
