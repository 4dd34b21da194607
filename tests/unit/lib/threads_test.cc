// Goal: virtual threads of the plain run compute, fail, wait, and end as the header says. Method:
// programs of a few lines each; what must happen at the same time is made to, by messages, never by
// sleeping.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "ppdsm/ppdsm.h"

namespace {

using namespace std::chrono_literals;
using ppdsm::VirtualComputer;
using ppdsm::VirtualThread;

int add(int a, int b) { return a + b; }
int add_safely(int a, int b) noexcept { return a + b; }
std::string join(const std::vector<std::string>& words, const std::string& separator) {
    std::string all;
    for (const auto& word : words) all += (all.empty() ? "" : separator) + word;
    return all;
}
int wait_for_number() { return ppdsm::self().receive<int>().value; }
void do_nothing() {}

TEST(Spawn, TakesFunctionsAndCapturelessLambdas) {
    VirtualComputer vc;
    EXPECT_EQ(vc.spawn(add, 2, 3).get(), 5);
    EXPECT_EQ(vc.spawn(&add, 2, 3).get(), 5);
    EXPECT_EQ(vc.spawn(add_safely, 2, 3).get(), 5);
    EXPECT_EQ(vc.spawn([](int a) { return a * 2; }, 21).get(), 42);
    EXPECT_EQ(vc.spawn(add, short{2}, 'a').get(), 2 + 'a') << "arguments convert as in a call";
    EXPECT_EQ(vc.spawn(join, std::vector<std::string>{"a", "b"}, "-").get(), "a-b");
    EXPECT_EQ(vc.spawn([](std::string&& s) { return s + "!"; }, "hi").get(), "hi!");
    vc.spawn(do_nothing).get();
}

TEST(Spawn, ArgumentsAreCopiesMadeAtTheCall) {
    VirtualComputer vc;
    std::vector<int> numbers{1, 2, 3};
    auto thread = vc.spawn(
        [](std::vector<int> mine) {
            static_cast<void>(wait_for_number());
            return mine;
        },
        numbers);
    numbers.clear();
    ppdsm::self().send(thread.id(), 0);
    EXPECT_EQ(thread.get(), (std::vector<int>{1, 2, 3}));
}

int fibonacci(int n) {
    if (n < 2) return n;
    auto left = ppdsm::self().spawn(fibonacci, n - 1);
    auto right = ppdsm::self().spawn(fibonacci, n - 2);
    return left.get() + right.get();
}

TEST(Spawn, VirtualThreadsSpawnVirtualThreads) {
    VirtualComputer vc;
    EXPECT_EQ(vc.spawn(fibonacci, 9).get(), 34);
}

TEST(Spawn, RefusesTheNullFunctionAndThreadsThatAreNone) {
    EXPECT_THROW(ppdsm::self(), ppdsm::Misuse);
    VirtualComputer vc;
    EXPECT_THROW(vc.spawn(static_cast<int (*)(int, int)>(nullptr), 1, 2), ppdsm::Misuse);
    EXPECT_THROW(VirtualComputer(), ppdsm::Misuse) << "one computer a thread";
    EXPECT_THROW(vc.spawn([] { const VirtualComputer inner; }).get(), ppdsm::Misuse);
    bool refused = false;
    std::thread([&] {
        try {
            vc.spawn(do_nothing);
        } catch (const ppdsm::Misuse&) {
            refused = true;
        }
    }).join();
    EXPECT_TRUE(refused) << "a computer is used by its own thread";
}

struct ManyTimes {
    std::string piece;
    int times = 0;
    template <class Archive>
    void serialize(Archive& archive) {
        archive(times);
        for (int i = 0; i < times; ++i) archive(piece);
    }
};

TEST(Spawn, ArgumentsAndResultsBeyondAGibibyteAreOversized) {
    VirtualComputer vc;
    const ManyTimes beyond{std::string(1 << 20, 'x'), 1026};
    EXPECT_THROW(vc.spawn([](const ManyTimes&) {}, beyond), ppdsm::Oversized);
    EXPECT_THROW(vc.spawn([] { return ManyTimes{std::string(1 << 20, 'x'), 1026}; }).get(),
                 ppdsm::Oversized);
}

template <class Exception>
void throw_it(const std::string& text) {
    throw Exception(text);
}

template <class Exception>
void expect_travels(VirtualComputer& vc) {
    auto thread = vc.spawn(throw_it<Exception>, "the text");
    try {
        thread.get();
        ADD_FAILURE() << "nothing was thrown";
    } catch (const std::exception& error) {
        EXPECT_STREQ(error.what(), "the text");
        EXPECT_TRUE(typeid(error) == typeid(Exception)) << typeid(error).name();
    }
}

TEST(Exceptions, OfTheStandardLibraryArriveAsTheyAre) {
    VirtualComputer vc;
    expect_travels<std::runtime_error>(vc);
    expect_travels<std::logic_error>(vc);
    expect_travels<std::invalid_argument>(vc);
    expect_travels<std::out_of_range>(vc);
    expect_travels<std::overflow_error>(vc);
    expect_travels<ppdsm::Deadlock>(vc);
    expect_travels<ppdsm::RemoteError>(vc);
    EXPECT_THROW(vc.spawn([] { throw std::bad_alloc(); }).get(), std::bad_alloc);
    EXPECT_THROW(vc.spawn([] { static_cast<void>(std::optional<int>().value()); }).get(),
                 std::bad_optional_access);
    auto thread =
        vc.spawn([] { throw std::system_error(ENOENT, std::generic_category(), "open: it"); });
    try {
        thread.get();
        ADD_FAILURE() << "nothing was thrown";
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code(), std::errc::no_such_file_or_directory);
        EXPECT_STREQ(error.what(), "open: it: No such file or directory");
    }
}

struct OwnError : std::out_of_range {
    using std::out_of_range::out_of_range;
};

TEST(Exceptions, OfTheProgramBecomeRemoteErrors) {
    VirtualComputer vc;
    auto thread = vc.spawn([] { throw OwnError("mine"); });
    try {
        thread.get();
        ADD_FAILURE() << "nothing was thrown";
    } catch (const ppdsm::RemoteError& error) {
        EXPECT_STREQ(error.what(), "mine");
    }
    EXPECT_THROW(vc.spawn([] { throw 7; }).get(), ppdsm::RemoteError);
    auto through_two = vc.spawn([] { ppdsm::self().spawn([] { throw OwnError("deep"); }).get(); });
    EXPECT_THROW(through_two.get(), ppdsm::RemoteError);
}

TEST(Waiting, ResultsAreTakenOnce) {
    VirtualComputer vc;
    auto thread = vc.spawn(add, 1, 1);
    EXPECT_EQ(thread.get(), 2);
    EXPECT_THROW(thread.get(), ppdsm::Misuse);
    EXPECT_THROW(VirtualThread<int>().get(), ppdsm::Misuse);
    EXPECT_FALSE(VirtualThread<int>().valid());
}

TEST(Waiting, WaitForTellsWhetherItHasEnded) {
    VirtualComputer vc;
    auto thread = vc.spawn(wait_for_number);
    EXPECT_FALSE(thread.wait_for(0s));
    EXPECT_FALSE(thread.wait_for(5ms));
    ppdsm::self().send(thread.id(), 4);
    EXPECT_TRUE(thread.wait_for(std::chrono::hours::max()));
    EXPECT_TRUE(thread.wait_for(0s));
    EXPECT_EQ(thread.get(), 4);
}

TEST(Waiting, IsForTheSpawnerOnlyAndWhileItsComputerLasts) {
    VirtualThread<int> left_over;
    VirtualThread<int> ended;
    {
        VirtualComputer vc;
        left_over = vc.spawn(wait_for_number);
        ended = vc.spawn(add, 3, 4);
        ended.wait();
        bool refused = false;
        auto running = vc.spawn(wait_for_number);
        std::thread([&] {
            try {
                running.wait();
            } catch (const ppdsm::Misuse&) {
                refused = true;
            }
        }).join();
        EXPECT_TRUE(refused);
        ppdsm::self().send(running.id(), 1);
        ppdsm::self().send(left_over.id(), 1);
    }
    EXPECT_EQ(ended.get(), 7);
    EXPECT_THROW(left_over.get(), ppdsm::Misuse);
}

TEST(Waiting, AHandleThatIsLeftOverReachesNobodyElse) {
    VirtualThread<int> left_over;
    {
        VirtualComputer vc;
        left_over = vc.spawn(wait_for_number);
        ppdsm::self().send(left_over.id(), 1);
    }
    VirtualComputer vc;
    auto namesake = vc.spawn(wait_for_number);
    ASSERT_EQ(namesake.id(), left_over.id());
    left_over.cancel();
    EXPECT_THROW(static_cast<void>(left_over.peer()), ppdsm::ThreadEnded);
    ppdsm::self().send(namesake.id(), 4);
    EXPECT_EQ(namesake.get(), 4) << "it was cancelled";
}

TEST(Waiting, HandlesAreNotForOtherThreads) {
    static VirtualThread<int>* of_main;
    VirtualComputer vc;
    auto running = vc.spawn(wait_for_number);
    of_main = &running;
    EXPECT_THROW(vc.spawn([] { of_main->cancel(); }).get(), ppdsm::Misuse);
    EXPECT_THROW(vc.spawn([] { of_main->on_partial<int>([](int) {}); }).get(), ppdsm::Misuse);
    EXPECT_THROW(vc.spawn([] { static_cast<void>(of_main->peer()); }).get(), ppdsm::Misuse);
    ppdsm::self().send(running.id(), 4);
    EXPECT_EQ(running.get(), 4);
}

TEST(Waiting, WhenAllGivesResultsInTheirOrder) {
    VirtualComputer vc;
    std::vector<VirtualThread<int>> threads;
    threads.reserve(20);
    for (int i = 0; i < 20; ++i) threads.push_back(vc.spawn(add, i, i));
    const auto results = when_all(threads);
    ASSERT_EQ(results.size(), 20U);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(results[static_cast<std::size_t>(i)], 2 * i);

    auto number = vc.spawn(add, 1, 2);
    auto text = vc.spawn(join, std::vector<std::string>{"x"}, "");
    auto none = vc.spawn(do_nothing);
    EXPECT_EQ(when_all(number, text, none), std::tuple(3, std::string("x"), std::monostate()));

    std::vector<VirtualThread<void>> nothing;
    nothing.push_back(vc.spawn(do_nothing));
    when_all(nothing);
}

TEST(Waiting, WhenAllThrowsTheFirstInOrderAfterAllHaveEnded) {
    VirtualComputer vc;
    std::vector<VirtualThread<int>> threads;
    threads.push_back(vc.spawn(wait_for_number));
    threads.push_back(vc.spawn([]() -> int { throw std::out_of_range("second"); }));
    threads.push_back(vc.spawn([]() -> int { throw std::logic_error("third"); }));
    threads[2].wait();
    ppdsm::self().send(threads[0].id(), 1);
    EXPECT_THROW(when_all(threads), std::out_of_range);
    for (const auto& thread : threads) EXPECT_TRUE(thread.wait_for(0s));
}

TEST(Waiting, WhenAnyGivesThemInTheOrderOfTheirEnds) {
    VirtualComputer vc;
    std::vector<VirtualThread<int>> threads;
    threads.reserve(3);
    for (int i = 0; i < 3; ++i) threads.push_back(vc.spawn(wait_for_number));
    for (const std::size_t index : {1U, 2U, 0U}) {
        ppdsm::self().send(threads[index].id(), static_cast<int>(index));
        EXPECT_EQ(when_any(threads), index);
        EXPECT_EQ(when_any(threads), index) << "until its result is taken";
        EXPECT_EQ(threads[index].get(), static_cast<int>(index));
    }
    EXPECT_THROW(when_any(threads), ppdsm::Misuse);
    auto number = vc.spawn(wait_for_number);
    auto text = vc.spawn(join, std::vector<std::string>{"x"}, "");
    EXPECT_EQ(when_any(number, text), 1U);
    ppdsm::self().send(number.id(), 1);
}

TEST(Cancel, ReachesOneThatWaits) {
    VirtualComputer vc;
    auto thread = vc.spawn(wait_for_number);
    thread.cancel();
    EXPECT_THROW(thread.get(), ppdsm::Cancelled);
    thread.cancel();
}

TEST(Cancel, ReachesOneThatComputesAtItsNextCall) {
    VirtualComputer vc;
    auto thread = vc.spawn([] {
        ppdsm::self().send(ppdsm::self().parent(), true);
        while (true) ppdsm::self().poll();
    });
    ppdsm::self().receive<bool>();
    thread.cancel();
    EXPECT_THROW(thread.get(), ppdsm::Cancelled);
}

TEST(Cancel, ReachesOneThatHasNotBegun) {
    static std::atomic<bool> began;
    began = false;
    VirtualComputer vc({.workers = 1});
    auto first = vc.spawn([] {
        ppdsm::self().send(ppdsm::self().parent(), true);
        while (!began) ppdsm::self().receive_for<int>(1ms);
    });
    ppdsm::self().receive<bool>();
    auto second = vc.spawn([] { began = true; });
    second.get();
    first.get();

    auto blocker = vc.spawn([] { return wait_for_number(); });
    auto cancelled = vc.spawn([] { return wait_for_number(); });
    cancelled.cancel();
    EXPECT_THROW(cancelled.get(), ppdsm::Cancelled);
    ppdsm::self().send(blocker.id(), 1);
}

TEST(Cancel, UnwindsAndMayBeOverruled) {
    VirtualComputer vc;
    auto thread = vc.spawn([] {
        ppdsm::self().send(ppdsm::self().parent(), true);
        try {
            return wait_for_number();
        } catch (const ppdsm::Cancelled&) {
            return -1;
        }
    });
    ppdsm::self().receive<bool>();
    thread.cancel();
    EXPECT_EQ(thread.get(), -1);
}

TEST(Computer, WaitsForItsThreadsWhenItGoes) {
    static std::atomic<int> ended;
    ended = 0;
    {
        VirtualComputer vc;
        for (int i = 0; i < 4; ++i) {
            vc.spawn([] {
                ppdsm::self().spawn([] { ++ended; });
                ++ended;
            });
        }
    }
    EXPECT_EQ(ended, 8);
}

TEST(Computer, CancelsItsThreadsWhenItGoesInUnwinding) {
    static std::atomic<int> cancelled;
    cancelled = 0;
    const auto fail = [] {
        VirtualComputer vc;
        vc.spawn([] {
            try {
                while (true) ppdsm::self().receive_for<int>(1h);
            } catch (const ppdsm::Cancelled&) {
                ++cancelled;
            }
        });
        throw std::runtime_error("main fails");
    };
    EXPECT_THROW(fail(), std::runtime_error);
    EXPECT_LE(cancelled, 1) << "it may not have begun";
    EXPECT_THROW(ppdsm::self(), ppdsm::Misuse);
}

TEST(Computer, CancelsThoseThatWaitForRoomForASlotOrForAnEndToo) {
    const auto fail = [] {
        VirtualComputer vc({.workers = 1, .mailbox_bytes = 100});
        vc.spawn([] {
            auto child = ppdsm::self().spawn(wait_for_number);
            ppdsm::self().send(ppdsm::self().parent(), 1);
            child.get();
        });
        vc.spawn([] {
            ppdsm::self().receive_for<double>(1ns);
            while (true) ppdsm::self().send(ppdsm::self().id(), 1);
        });
        vc.spawn([] {
            while (true) ppdsm::self().report(std::string(1000, 'x'));
        });
        ppdsm::self().receive<int>();
        throw std::domain_error("main fails");
    };
    EXPECT_THROW(fail(), std::domain_error);
}

TEST(ComputerDeathTest, GoesOnTheThreadThatMadeIt) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    const auto end_elsewhere = [] {
        auto vc = std::make_unique<VirtualComputer>();
        std::thread([&vc] { vc.reset(); }).join();
    };
    EXPECT_DEATH(end_elsewhere(), "another thread than the one that made it");
}

TEST(Computer, WaitAllLeavesOutcomesToTheirTakers) {
    VirtualComputer vc;
    auto good = vc.spawn(add, 1, 1);
    auto bad = vc.spawn([] { throw std::runtime_error("x"); });
    vc.wait_all();
    EXPECT_TRUE(good.wait_for(0s));
    EXPECT_THROW(bad.get(), std::runtime_error);
}

TEST(Computer, OnesOfDifferentThreadsKeepApart) {
    const auto compute = [](int& sum) {
        VirtualComputer vc;
        std::vector<VirtualThread<int>> threads;
        threads.reserve(10);
        for (int i = 0; i < 10; ++i) threads.push_back(vc.spawn(add, i, 1));
        for (const int result : when_all(threads)) sum += result;
    };
    int here = 0;
    int there = 0;
    std::thread other(compute, std::ref(there));
    compute(here);
    other.join();
    EXPECT_EQ(here, 55);
    EXPECT_EQ(there, 55);
}

TEST(Computer, KnowsWhoIsWho) {
    VirtualComputer vc;
    EXPECT_EQ(ppdsm::self().name(), "main");
    EXPECT_EQ(ppdsm::self().parent(), ppdsm::VirtualThreadId{});
    auto named = vc.spawn({"island 3"}, [] {
        wait_for_number();
        return std::tuple(ppdsm::self().id(), ppdsm::self().parent(), ppdsm::self().name());
    });
    EXPECT_EQ(named.name(), "island 3");
    EXPECT_EQ(named.peer(), "localhost");
    ppdsm::self().send(named.id(), 1);
    named.wait();
    EXPECT_THROW(static_cast<void>(named.peer()), ppdsm::ThreadEnded);
    EXPECT_EQ(named.get(), std::tuple(named.id(), ppdsm::self().id(), std::string("island 3")));
    auto unnamed = vc.spawn([] { return ppdsm::self().name(); });
    EXPECT_EQ(unnamed.name(), unnamed.get());
}

TEST(Workers, BoundHowManyRunAtATime) {
    static std::atomic<int> running;
    static std::atomic<int> most;
    running = most = 0;
    VirtualComputer vc({.workers = 2, .threads_per_worker = 2});
    std::vector<VirtualThread<void>> threads;
    threads.reserve(12);
    for (int i = 0; i < 12; ++i) {
        threads.push_back(vc.spawn([] {
            const int now = ++running;
            for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
            }
            // The first four meet here, so the bound is reached.
            while (most < 4) std::this_thread::yield();
            --running;
        }));
    }
    when_all(threads);
    EXPECT_EQ(most, 4);
}

TEST(Workers, OneThatWaitsOrLooksInVainLetsOthersRun) {
    VirtualComputer vc({.workers = 1});
    EXPECT_EQ(vc.spawn(fibonacci, 6).get(), 8);
    auto impatient = vc.spawn([] {
        while (true) {
            if (const auto message = ppdsm::self().try_receive<int>()) return message->value;
        }
    });
    auto giver =
        vc.spawn([](ppdsm::VirtualThreadId to) { ppdsm::self().send(to, 3); }, impatient.id());
    EXPECT_EQ(impatient.get(), 3);
}

TEST(Rank, ComesFromTheEnvironment) {
    EXPECT_EQ(ppdsm::rank(), 0U);
    EXPECT_EQ(ppdsm::size(), 1U);
    setenv("PPDSM_RANK", "3", 1);
    setenv("PPDSM_SIZE", "8", 1);
    EXPECT_EQ(ppdsm::rank(), 3U);
    EXPECT_EQ(ppdsm::size(), 8U);
    setenv("PPDSM_SIZE", "8x", 1);
    EXPECT_EQ(ppdsm::size(), 1U);
    unsetenv("PPDSM_RANK");
    unsetenv("PPDSM_SIZE");
}

}  // namespace
