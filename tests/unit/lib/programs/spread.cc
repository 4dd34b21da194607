// A program of two files and a shared library, for check_builds.sh: all take part in one virtual
// computer, which is of static storage duration. PART says which of the three this is.
#include <cstdio>
#include <stdexcept>
#include <string>

#include "ppdsm/ppdsm.h"

#define SHOWN __attribute__((visibility("default")))

struct Step {
    int value;
};

SHOWN int report_in_library(int steps);
SHOWN int spawn_in_library(int x);
SHOWN void take_what_fails();
int receive_in_other_file();

#if PART == 1

static ppdsm::VirtualComputer computer;

int main() {
    int sum = 0;
    auto reporter = computer.spawn(report_in_library, 4);
    reporter.on_partial<Step>([&sum](const Step& step) { sum += step.value; });
    const int steps = reporter.get();
    std::printf("%d steps, sum %d\n", steps, sum);
    std::printf("%d\n", spawn_in_library(20));
    std::printf("%d\n", computer.spawn(spawn_in_library, 30).get());
    try {
        take_what_fails();
    } catch (const ppdsm::RemoteError& error) {
        std::printf("remote: %s\n", error.what());
    }
    try {
        computer.spawn(take_what_fails).get();
    } catch (const ppdsm::RemoteError& error) {
        std::printf("remote: %s\n", error.what());
    }
    ppdsm::Mailbox<int>("box").send(7);
    std::printf("%d\n", computer.spawn(receive_in_other_file).get());
    computer.spawn([] { ppdsm::self().receive_for<int>(std::chrono::milliseconds(1)); });
    return 0;  // The computer waits for that one.
}

#elif PART == 2

int receive_in_other_file() { return ppdsm::Mailbox<int>("box").receive().value; }

#else

int report_in_library(int steps) {
    for (int i = 0; i < steps; ++i) ppdsm::self().report(Step{i});
    return steps;
}

int spawn_in_library(int x) {
    return ppdsm::self().spawn([](int y) { return 2 * y; }, x).get();
}

struct OwnError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void take_what_fails() {
    ppdsm::self().spawn([] { throw OwnError("thrown in the library"); }).get();
}

#endif
