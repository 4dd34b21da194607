// One epoll set over an eventfd, a one-shot timerfd, a signalfd and a pipe. A round ends when each
// of the four has spoken once; what each said is added up.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "common.h"

enum Source { kEvent, kTimer, kSignal, kPipe, kSources };

static void watch(int epoll, int fd, enum Source source) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.u64 = source;
    REQUIRE(fd != -1);
    REQUIRE(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

static uint64_t read_source(enum Source source, int fd) {
    uint64_t value = 0;
    if (source == kSignal) {
        struct signalfd_siginfo info;
        REQUIRE(read(fd, &info, sizeof info) == (ssize_t)sizeof info);
        return info.ssi_signo;
    }
    REQUIRE(read(fd, &value, sizeof value) == (ssize_t)sizeof value);
    return value;
}

static void start_round(const int* fds, int pipe_in, uint64_t round) {
    const struct itimerspec once = {{0, 0}, {0, 15000000}};
    const uint64_t event = round + 1, message = round * 3;
    REQUIRE(timerfd_settime(fds[kTimer], 0, &once, NULL) == 0);
    write_full(fds[kEvent], &event, sizeof event);
    write_full(pipe_in, &message, sizeof message);
    REQUIRE(kill(getpid(), SIGUSR1) == 0);
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 60);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    REQUIRE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int pipe_fds[2];
    REQUIRE(pipe(pipe_fds) == 0);
    const int epoll = epoll_create1(0);
    REQUIRE(epoll != -1);
    const int fds[kSources] = {eventfd(0, 0), timerfd_create(CLOCK_MONOTONIC, 0),
                               signalfd(-1, &set, 0), pipe_fds[0]};
    for (int i = 0; i < kSources; ++i) watch(epoll, fds[i], (enum Source)i);
    uint64_t sums[kSources] = {0, 0, 0, 0};
    for (int round = 0; round < rounds; ++round) {
        start_round(fds, pipe_fds[1], (uint64_t)round);
        pace_ms(10);  // All but perhaps the timer are ready and unread here.
        unsigned missing = (1u << kSources) - 1;
        while (missing != 0) {
            struct epoll_event event;
            const int ready = epoll_wait(epoll, &event, 1, -1);
            if (ready == -1 && errno == EINTR) continue;
            REQUIRE(ready == 1);
            const enum Source source = (enum Source)event.data.u64;
            sums[source] += read_source(source, fds[source]);
            REQUIRE(missing & (1u << source));
            missing &= ~(1u << source);
        }
        say("round %d event %llu timer %llu signal %llu pipe %llu", round,
            (unsigned long long)sums[kEvent], (unsigned long long)sums[kTimer],
            (unsigned long long)sums[kSignal], (unsigned long long)sums[kPipe]);
    }
    return 0;
}
