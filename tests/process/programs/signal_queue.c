// Queued real-time signals with values: bursts that stay pending across a pause, and questions and
// answers between two processes. A lost, doubled or reordered signal changes the account.
#include <signal.h>
#include <sys/wait.h>

#include "common.h"

enum { kBurst = 32 };

static int next_value(const sigset_t* set) {
    siginfo_t info;
    int signal_number;
    do {
        signal_number = sigwaitinfo(set, &info);
    } while (signal_number == -1 && errno == EINTR);
    REQUIRE(signal_number == SIGRTMIN);
    return info.si_value.sival_int;
}

static void send_value(pid_t to, int value) {
    union sigval payload;
    payload.sival_int = value;
    while (sigqueue(to, SIGRTMIN, payload) == -1) REQUIRE(errno == EAGAIN);
}

static void answer(const sigset_t* set) {
    unsigned history = 1;
    for (;;) {
        const int question = next_value(set);
        if (question < 0) _exit((int)(history % 200));
        history = history * 31 + (unsigned)question;
        send_value(getppid(), (int)(history & 0xffffff));
    }
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 25);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    REQUIRE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) answer(&set);
    for (int round = 0; round < rounds; ++round) {
        send_value(child, round);
        const int reply = next_value(&set);
        for (int i = 0; i < kBurst; ++i) send_value(getpid(), round * kBurst + i);
        pace_ms(40);  // All of the burst is pending here, for a checkpoint to find.
        int out_of_order = 0;
        for (int i = 0; i < kBurst; ++i) {
            if (next_value(&set) != round * kBurst + i) ++out_of_order;
        }
        say("round %d reply %06x out of order %d", round, (unsigned)reply, out_of_order);
    }
    send_value(child, -1);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    say("child exit %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return 0;
}
