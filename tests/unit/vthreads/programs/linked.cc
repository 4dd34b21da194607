// One behaviour a run, named by the first argument; prints what came of it.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "ppdsm/ppdsm.h"

namespace {

/// Its constructor runs in every virtual thread, before the thread's function.
struct Static {
    int made = 0;
    Static() { made = 42; }
} made_before_main;

long process_of_mine(int) { return static_cast<long>(getpid()) * (made_before_main.made == 42); }

int fail_in_its_way(std::string way) {
    if (way == "throw") throw std::out_of_range("too far");
    if (way == "exit") std::exit(3);
    if (way == "signal") raise(SIGSEGV);
    return 1;
}

std::uint64_t sum_of_messages(int count) {
    std::uint64_t sum = 0;
    for (int i = 0; i < count; ++i) {
        const auto numbers = ppdsm::self().receive<std::vector<std::uint32_t>>();
        sum += std::accumulate(numbers.value.begin(), numbers.value.end(), std::uint64_t{0});
    }
    return sum;
}

void wait_for_ever() { ppdsm::self().receive<int>(); }

std::string who(int) { return std::to_string(ppdsm::self().id().value); }

int report_all(int count) {
    for (int i = 0; i < count; ++i) ppdsm::self().report(i);
    return count;
}

int processes(ppdsm::VirtualComputer& vc) {
    auto a = vc.spawn(process_of_mine, 0), b = vc.spawn(process_of_mine, 0);
    const long first = a.get(), second = b.get();
    const bool apart = first != getpid() && second != getpid() && first != second;
    std::printf("%s\n", apart && first > 0 && second > 0 ? "apart" : "together");
    return 0;
}

int failures(ppdsm::VirtualComputer& vc) {
    for (const char* way : {"throw", "exit", "signal"}) {
        auto thread = vc.spawn(fail_in_its_way, std::string(way));
        try {
            thread.get();
        } catch (const std::out_of_range& error) {
            std::printf("out of range: %s\n", error.what());
        } catch (const ppdsm::ThreadCrashed& error) {
            std::printf("crashed: %s\n", error.what());
        }
    }
    return 0;
}

int messages(ppdsm::VirtualComputer& vc) {
    auto thread = vc.spawn(sum_of_messages, 4);
    for (const std::size_t size : {0U, 1U, 1000U, 3'000'000U}) {
        std::vector<std::uint32_t> numbers(size);
        std::iota(numbers.begin(), numbers.end(), 1U);
        ppdsm::self().send(thread.id(), numbers);
    }
    std::printf("%llu\n", static_cast<unsigned long long>(thread.get()));
    return 0;
}

int deadlock(ppdsm::VirtualComputer& vc) {
    auto thread = vc.spawn({"the waiting one"}, wait_for_ever);
    try {
        thread.get();
    } catch (const ppdsm::Deadlock& error) {
        std::printf("%s\n", error.what());
    }
    return 0;
}

int partials(ppdsm::VirtualComputer& vc) {
    auto thread = vc.spawn(report_all, 100);
    int next = 0;
    bool in_order = true;
    thread.on_partial<int>([&](const int& i) { in_order = in_order && i == next++; });
    std::printf("%d of %d, %s\n", next, thread.get(), in_order ? "in order" : "out of order");
    std::printf("%d\n", next);
    return 0;
}

int print_lines(int thread) {
    for (int i = 0; i < 500; ++i) std::printf("line %d of %d\n", i, thread);
    std::fprintf(stderr, "without an end");
    return 0;
}

int print(ppdsm::VirtualComputer& vc) {
    std::vector<ppdsm::VirtualThread<int>> threads;
    for (int i = 0; i < 3; ++i) threads.push_back(vc.spawn(print_lines, i));
    when_all(threads);
    std::printf("main\n");
    return 0;
}

/// Some seconds in which it asks for nothing.
std::uint64_t count_up(std::uint64_t limit) {
    volatile std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < limit; ++i) sum = sum + i;
    return sum;
}

int compute(ppdsm::VirtualComputer& vc) {
    const std::uint64_t limit = 40'000'000'000;  // The sum wraps, here and there alike.
    auto thread = vc.spawn(count_up, limit);
    std::printf("%s\n", thread.get() == limit / 2 * (limit - 1) ? "right" : "wrong");
    return 0;
}

int many(ppdsm::VirtualComputer& vc) {
    std::vector<ppdsm::VirtualThread<std::string>> threads;
    for (int i = 0; i < 20; ++i) threads.push_back(vc.spawn(who, i));
    for (const std::string& id : when_all(threads)) std::printf("%s ", id.c_str());
    std::printf("\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    ppdsm::VirtualComputer vc({.workers = 3});
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "processes") return processes(vc);
    if (what == "failures") return failures(vc);
    if (what == "messages") return messages(vc);
    if (what == "deadlock") return deadlock(vc);
    if (what == "partials") return partials(vc);
    if (what == "many") return many(vc);
    if (what == "compute") return compute(vc);
    if (what == "print") return print(vc);
    return 2;
}
