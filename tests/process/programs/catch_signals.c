// catch_signals N: prints "ready", then the names of the first N signals it catches of TERM, INT,
// HUP, USR1, USR2 and QUIT, in the order of their coming; exit code 10 + N.
#include <signal.h>

#include "common.h"

static const struct {
    int number;
    const char* name;
} kCaught[] = {{SIGTERM, "TERM"}, {SIGINT, "INT"},   {SIGHUP, "HUP"},
               {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}, {SIGQUIT, "QUIT"}};
enum { kKinds = sizeof kCaught / sizeof kCaught[0] };

int main(int argc, char** argv) {
    REQUIRE(argc == 2);
    const int wanted = atoi(argv[1]);
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < kKinds; ++i) sigaddset(&set, kCaught[i].number);
    REQUIRE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    say("ready");
    for (int caught = 0; caught < wanted;) {
        const int number = sigwaitinfo(&set, NULL);
        if (number == -1 && errno == EINTR) continue;
        REQUIRE(number > 0);
        ++caught;
        for (int i = 0; i < kKinds; ++i) {
            if (kCaught[i].number == number) say("caught %s", kCaught[i].name);
        }
    }
    return 10 + wanted;
}
