// Memory that two processes share: a mapped file and an anonymous mapping, changed in turns that a
// process-shared mutex and condition variable keep. The file is left to be compared.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "common.h"

enum { kSize = 1 << 20 };
struct Turn {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int number;
};

static void take_turns(struct Turn* turn, int parity, int turns, uint64_t* file, uint64_t* memory) {
    uint64_t state = (uint64_t)parity + 1;
    for (int i = 0; i < turns; ++i) {
        pthread_mutex_lock(&turn->mutex);
        while (turn->number % 2 != parity) pthread_cond_wait(&turn->changed, &turn->mutex);
        for (int touch = 0; touch < 200; ++touch) {
            const uint64_t cell = next_random(&state) % (kSize / sizeof(uint64_t));
            memory[cell] += file[cell] + (uint64_t)parity + 1;
            file[(cell * 31) % (kSize / sizeof(uint64_t))] ^= memory[cell] + state;
        }
        if (parity == 0) {
            say("turn %d file %016llx memory %016llx", i,
                (unsigned long long)checksum(kSumStart, file, kSize),
                (unsigned long long)checksum(kSumStart, memory, kSize));
        }
        ++turn->number;
        pthread_cond_signal(&turn->changed);
        pthread_mutex_unlock(&turn->mutex);
        pace_ms(12);
    }
}

static struct Turn* shared_turn(void) {
    struct Turn* turn =
        mmap(NULL, sizeof *turn, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(turn != MAP_FAILED);
    pthread_mutexattr_t mutex_kind;
    pthread_mutexattr_init(&mutex_kind);
    pthread_mutexattr_setpshared(&mutex_kind, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&turn->mutex, &mutex_kind);
    pthread_condattr_t condition_kind;
    pthread_condattr_init(&condition_kind);
    pthread_condattr_setpshared(&condition_kind, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&turn->changed, &condition_kind);
    return turn;
}

int main(int argc, char** argv) {
    const int turns = rounds_asked(argc, argv, 60);
    const int fd = open("shared.dat", O_RDWR | O_CREAT | O_TRUNC, 0644);
    REQUIRE(fd != -1);
    REQUIRE(ftruncate(fd, kSize) == 0);
    uint64_t* file = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint64_t* memory = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(file != MAP_FAILED && memory != MAP_FAILED);
    struct Turn* turn = shared_turn();
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) {
        take_turns(turn, 1, turns, file, memory);
        _exit(7);
    }
    take_turns(turn, 0, turns, file, memory);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    say("child %d file %016llx memory %016llx", WEXITSTATUS(status),
        (unsigned long long)checksum(kSumStart, file, kSize),
        (unsigned long long)checksum(kSumStart, memory, kSize));
    return 0;
}
