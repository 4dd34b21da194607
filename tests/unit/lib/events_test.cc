// Goal: partial results and worker events are delivered once each, in order, on the spawner's
// thread, while it waits or polls. Method: reporters that say what they will, counted where it
// arrives.
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <thread>

#include "ppdsm/ppdsm.h"

namespace {

using namespace std::chrono_literals;
using ppdsm::self;
using ppdsm::VirtualComputer;
using ppdsm::VirtualThread;
using ppdsm::VirtualThreadId;

struct Step {
    int value;
};

int report_steps(int count) {
    for (int i = 0; i < count; ++i) self().report(Step{i});
    return count;
}

int take_number() { return self().receive<int>().value; }

std::vector<int> up_to(int count) {
    std::vector<int> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    return all;
}

TEST(Partials, ArriveOnceInOrderOnTheSpawnersThread) {
    VirtualComputer vc;
    std::vector<int> seen;
    const auto here = std::this_thread::get_id();
    auto thread = vc.spawn(report_steps, 10000);  // More than may be undelivered.
    thread.on_partial<Step>([&](const Step& step) {
        EXPECT_EQ(std::this_thread::get_id(), here);
        seen.push_back(step.value);
    });
    EXPECT_EQ(thread.get(), 10000);
    EXPECT_EQ(seen, up_to(10000)) << "all before get returns";
}

TEST(Partials, OfSeveralThreadsKeepEachOnesOrder) {
    VirtualComputer vc;
    std::map<int, std::vector<int>> seen;
    std::vector<VirtualThread<int>> threads;
    threads.reserve(5);
    for (int i = 0; i < 5; ++i) {
        threads.push_back(vc.spawn(report_steps, 200));
        threads.back().on_partial<Step>(
            [&seen, i](const Step& step) { seen[i].push_back(step.value); });
    }
    when_all(threads);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(seen[i], up_to(200));
}

TEST(Partials, GoToTheCallbackOfTheirType) {
    VirtualComputer vc;
    std::vector<std::string> seen;
    auto thread = vc.spawn([] {
        self().report(1);
        self().report(std::string("two"));
        self().report(3.0);
    });
    thread.on_partial<int>([&](int i) { seen.push_back(std::to_string(i)); })
        .on_partial<std::string>([&](const std::string& s) { seen.push_back(s); });
    thread.get();
    EXPECT_EQ(seen, (std::vector<std::string>{"1", "two"})) << "and none without a callback";
}

TEST(Partials, GoToWhoeverSpawned) {
    VirtualComputer vc;
    int at_main = 0;
    auto outer = vc.spawn([] {
        int sum = 0;
        auto inner = self().spawn(report_steps, 4);
        inner.on_partial<Step>([&](const Step& step) { sum += step.value; });
        inner.get();
        return sum;
    });
    outer.on_partial<Step>([&](const Step&) { ++at_main; });
    EXPECT_EQ(outer.get(), 6);
    EXPECT_EQ(at_main, 0);
    EXPECT_THROW(self().report(Step{1}), ppdsm::Misuse) << "nobody spawned main";
}

int report_and_answer() {
    self().report(Step{7});
    self().send(self().parent(), true);
    return self().receive<int>().value;
}

TEST(Partials, AreDeliveredByEachCallThatWaits) {
    VirtualComputer vc;
    int seen = 0;
    const auto begin = [&] {
        auto thread = vc.spawn(report_and_answer);
        thread.on_partial<Step>([&](const Step&) { ++seen; });
        return thread;
    };
    auto by_receive = begin();
    self().receive<bool>();
    EXPECT_EQ(seen, 1);
    auto by_wait_for = begin();
    while (seen < 2) static_cast<void>(by_wait_for.wait_for(1ms));
    auto by_poll = begin();
    while (seen < 3) vc.poll();
    auto by_try_receive = begin();
    while (seen < 4) static_cast<void>(self().try_receive<double>());
    for (auto* thread : {&by_receive, &by_wait_for, &by_poll, &by_try_receive}) {
        self().send(thread->id(), 1);
        if (thread != &by_receive) self().receive<bool>(thread->id());
        thread->get();
    }
    EXPECT_EQ(seen, 4);
}

TEST(Partials, AreDeliveredByASendThatWaits) {
    VirtualComputer vc({.mailbox_bytes = 100});
    auto receiver = vc.spawn([] {
        int sum = 0;
        self().report(Step{1});
        for (int i = 0; i < 200; ++i) {
            sum += self().receive<int>().value;
            for (int j = 0; j < 50; ++j) self().report(Step{1});
        }
        return sum;
    });
    int seen = 0;
    receiver.on_partial<Step>([&](const Step&) { ++seen; });
    for (int i = 0; i < 200; ++i) self().send(receiver.id(), 1);
    EXPECT_GE(seen, 10001 - 4096 - 100) << "sending did not deliver, so reports had to wait";
    EXPECT_EQ(receiver.get(), 200);
    EXPECT_EQ(seen, 10001);
}

TEST(Partials, OutliveTheHandle) {
    VirtualComputer vc;
    std::vector<int> seen;
    vc.spawn(report_steps, 5).on_partial<Step>([&](const Step& step) {
        seen.push_back(step.value);
    });
    vc.wait_all();
    EXPECT_EQ(seen, up_to(5));
}

TEST(Partials, MayComeFromOneWhoseSpawnerHasEnded) {
    VirtualComputer vc;
    vc.spawn([] {
          const auto orphan = self().spawn([] {
              self().receive<int>();
              report_steps(10000);
              self().send(VirtualThreadId{1}, true);
          });
          self().send(self().parent(), orphan.id());
      }).get();
    self().send(self().receive<VirtualThreadId>().value, 1);
    EXPECT_TRUE(self().receive<bool>().value);
}

TEST(Callbacks, ThatThrowDoSoFromTheCallThatWaits) {
    VirtualComputer vc;
    auto thread = vc.spawn(report_steps, 3);
    int seen = 0;
    thread.on_partial<Step>([&](const Step&) {
        if (++seen == 2) throw std::domain_error("enough");
    });
    EXPECT_THROW(thread.get(), std::domain_error);
    EXPECT_EQ(thread.get(), 3) << "the rest comes later";
    EXPECT_EQ(seen, 3);
}

TEST(Callbacks, MayWaitAndAreNotInterruptedByOthers) {
    VirtualComputer vc;
    std::vector<std::string> log;
    auto first = vc.spawn(report_steps, 2);
    auto second = vc.spawn(report_steps, 2);
    second.on_partial<Step>(
        [&](const Step& step) { log.push_back("second " + std::to_string(step.value)); });
    first.on_partial<Step>([&](const Step& step) {
        log.push_back("begin " + std::to_string(step.value));
        second.wait();
        EXPECT_EQ(vc.spawn([] { return 5; }).get(), 5);
        log.push_back("end " + std::to_string(step.value));
    });
    first.get();
    vc.poll();
    ASSERT_EQ(log.size(), 6U);
    for (std::size_t i = 0; i < log.size(); ++i) {
        if (log[i].rfind("begin", 0) == 0) {
            EXPECT_EQ(log[i + 1], "end" + log[i].substr(5));
        }
    }
    EXPECT_EQ(second.get(), 2);
}

TEST(Callbacks, KeepWhatTheyHoldAndMayReplaceThemselves) {
    VirtualComputer vc;
    int last = 0;
    auto counted = vc.spawn(report_steps, 5);
    counted.on_partial<Step>([&last, count = std::make_unique<int>(),
                              again = 0](const Step&) mutable { last = ++*count + ++again; });
    counted.get();
    EXPECT_EQ(last, 10);

    int first_seen = 0;
    int then_seen = 0;
    auto replaced = vc.spawn(report_steps, 5);
    replaced.on_partial<Step>([&](const Step&) {
        replaced.on_partial<Step>([&](const Step&) { ++then_seen; });
        ++first_seen;
    });
    replaced.get();
    EXPECT_EQ(first_seen, 1);
    EXPECT_EQ(then_seen, 4);
}

TEST(Callbacks, MayWaitForAll) {
    VirtualComputer vc;
    auto reporter = vc.spawn(report_steps, 1);
    auto other = vc.spawn(take_number);
    int waited = 0;
    reporter.on_partial<Step>([&](const Step&) {
        self().send(other.id(), 4);
        vc.wait_all();
        ++waited;
    });
    vc.wait_all();
    EXPECT_EQ(waited, 1);
    EXPECT_EQ(reporter.get(), 1);
    EXPECT_EQ(other.get(), 4);
}

TEST(CallbacksDeathTest, DoNotEndTheirComputer) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    const auto end_in_callback = [] {
        std::optional<VirtualComputer> vc(std::in_place);
        auto thread = vc->spawn(report_steps, 1);
        thread.on_partial<Step>([&](const Step&) { vc.reset(); });
        thread.get();
    };
    EXPECT_DEATH(end_in_callback(), "while one of its callbacks runs");
}

TEST(Workers, AnnounceThemselves) {
    VirtualComputer vc;
    std::vector<ppdsm::WorkerEvent> seen;
    vc.on_worker([&](const ppdsm::WorkerEvent& event) { seen.push_back(event); });
    EXPECT_TRUE(seen.empty()) << "only while main waits or polls";
    vc.poll();
    vc.poll();
    ASSERT_EQ(seen.size(), 1U);
    EXPECT_EQ(seen[0].kind, ppdsm::WorkerEvent::Kind::kJoined);
    EXPECT_EQ(seen[0].peer, "localhost");
}

}  // namespace
