// Interval timers of both kinds keep ticking: a milestone is printed when each has ticked often
// enough, so that a timer that was lost hangs the program; handlers, masks and an alternate signal
// stack are part of what must come back.
#include <signal.h>
#include <sys/time.h>

#include "common.h"

static volatile sig_atomic_t g_alarms;
static volatile sig_atomic_t g_ticks;
static volatile sig_atomic_t g_wrong;
static char g_stack[65536];

static void on_alarm(int signal_number) {
    char here;
    if (&here < g_stack || &here >= g_stack + sizeof g_stack) g_wrong = 1;
    if (signal_number != SIGALRM) g_wrong = 1;
    ++g_alarms;
}

static void on_tick(int signal_number, siginfo_t* info, void* context) {
    (void)context;
    if (signal_number != SIGRTMIN + 1 || info->si_value.sival_int != 4711) g_wrong = 1;
    ++g_ticks;
}

static void start_timers(void) {
    stack_t stack;
    memset(&stack, 0, sizeof stack);
    stack.ss_sp = g_stack;
    stack.ss_size = sizeof g_stack;
    REQUIRE(sigaltstack(&stack, NULL) == 0);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_ONSTACK | SA_RESTART;
    REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_tick;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    REQUIRE(sigaction(SIGRTMIN + 1, &action, NULL) == 0);

    const struct itimerval every_10_ms = {{0, 10000}, {0, 10000}};
    REQUIRE(setitimer(ITIMER_REAL, &every_10_ms, NULL) == 0);
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMIN + 1;
    event.sigev_value.sival_int = 4711;
    timer_t timer;
    REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    const struct itimerspec every_15_ms = {{0, 15000000}, {0, 15000000}};
    REQUIRE(timer_settime(timer, 0, &every_15_ms, NULL) == 0);
}

int main(int argc, char** argv) {
    const int milestones = rounds_asked(argc, argv, 10);
    sigset_t blocked, none;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    sigaddset(&blocked, SIGRTMIN + 1);
    sigemptyset(&none);
    REQUIRE(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    start_timers();
    for (int milestone = 1; milestone <= milestones; ++milestone) {
        while (g_alarms < milestone * 8 || g_ticks < milestone * 5) sigsuspend(&none);
        say("milestone %d wrong %d", milestone, (int)g_wrong);
    }
    return g_wrong;
}
