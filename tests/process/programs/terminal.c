// terminal N: tells whether the standard streams are terminals and how large the window is, then
// the next N events: a changed window, an interrupt, or a line that was typed. Exit code 0.
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

#include "common.h"

static void say_size(const char* when) {
    struct winsize size;
    if (ioctl(0, TIOCGWINSZ, &size) == 0) {
        say("%s %d rows %d columns", when, size.ws_row, size.ws_col);
    } else {
        say("%s no window", when);
    }
}

int main(int argc, char** argv) {
    REQUIRE(argc == 2);
    const int wanted = atoi(argv[1]);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigaddset(&set, SIGINT);
    REQUIRE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    const int signals = signalfd(-1, &set, 0);
    REQUIRE(signals != -1);
    say("terminal %d %d %d", isatty(0), isatty(1), isatty(2));
    say_size("window");
    for (int events = 0; events < wanted;) {
        struct pollfd ready[2] = {{0, POLLIN, 0}, {signals, POLLIN, 0}};
        if (poll(ready, 2, -1) == -1 && errno == EINTR) continue;
        if (ready[1].revents != 0) {
            struct signalfd_siginfo info;
            REQUIRE(read(signals, &info, sizeof info) == (ssize_t)sizeof info);
            if (info.ssi_signo == SIGINT) {
                say("interrupted");
            } else {
                say_size("changed to");
            }
            ++events;
        } else if (ready[0].revents != 0) {
            char line[256];
            const ssize_t got = read(0, line, sizeof line - 1);
            if (got <= 0) break;
            line[strcspn(line, "\n")] = '\0';
            line[got] = '\0';
            say("typed %s", line);
            ++events;
        }
    }
    return 0;
}
