// Goal: each message arrives once, in order, where it was sent; bounds hold; what can never go on
// is told so. Method: senders and receivers that meet by messages only; bounds small enough to be
// reached.
#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "ppdsm/ppdsm.h"

namespace {

using namespace std::chrono_literals;
using ppdsm::Mailbox;
using ppdsm::self;
using ppdsm::VirtualComputer;
using ppdsm::VirtualThread;
using ppdsm::VirtualThreadId;

struct Count {
    int value;
};

void count_to(int end) {
    for (int i = 0; i < end; ++i) self().send(self().parent(), Count{i});
}

int take_number() { return self().receive<int>().value; }

TEST(Messages, OfOneSenderKeepTheirOrder) {
    VirtualComputer vc;
    std::vector<VirtualThread<void>> senders;
    senders.reserve(4);
    for (int i = 0; i < 4; ++i) senders.push_back(vc.spawn(count_to, 500));
    std::map<VirtualThreadId, int> next;
    for (int i = 0; i < 4 * 500; ++i) {
        const auto message = self().receive<Count>();
        ASSERT_EQ(message.value.value, next[message.sender]++);
    }
    EXPECT_EQ(next.size(), 4U);
    EXPECT_FALSE(self().try_receive<Count>()) << "each arrives once";
}

TEST(Messages, AreTakenByTypeAndBySender) {
    VirtualComputer vc;
    auto first = vc.spawn([] { self().send(self().parent(), 1); });
    first.get();
    auto second = vc.spawn([] {
        self().send(self().parent(), std::string("text"));
        self().send(self().parent(), 2);
    });
    second.get();
    EXPECT_FALSE(self().try_receive<double>());
    EXPECT_EQ(self().receive<int>(second.id()).value, 2);
    EXPECT_FALSE(self().try_receive<int>(second.id()));
    const auto text = self().receive<std::string>();
    EXPECT_EQ(text.value, "text");
    EXPECT_EQ(text.sender, second.id());
    EXPECT_EQ(self().receive<int>().sender, first.id());
}

TEST(Messages, ReceiveForGivesUpInTime) {
    VirtualComputer vc;
    EXPECT_FALSE(self().receive_for<int>(0s));
    EXPECT_FALSE(self().receive_for<int>(2ms));
    EXPECT_FALSE(self().receive_for<int>(std::chrono::hours::min()));
    self().send(self().id(), 5);
    EXPECT_EQ(self().receive_for<int>(1h)->value, 5);
}

TEST(Messages, MayBeEmpty) {
    VirtualComputer vc;
    auto echo =
        vc.spawn([] { self().send(self().parent(), self().receive<std::tuple<>>().value); });
    self().send(echo.id(), std::tuple<>());
    EXPECT_EQ(self().receive<std::tuple<>>().sender, echo.id());
}

TEST(Messages, ToOneThatHasEndedAreRefused) {
    VirtualComputer vc;
    auto thread = vc.spawn([] {});
    thread.wait();
    EXPECT_THROW(self().send(thread.id(), 1), ppdsm::ThreadEnded);
    EXPECT_THROW(static_cast<void>(self().try_send(thread.id(), 1)), ppdsm::ThreadEnded);
    EXPECT_THROW(self().send({99}, 1), ppdsm::Misuse);
    EXPECT_THROW(self().send({}, 1), ppdsm::Misuse);
}

TEST(Messages, ASenderThatWaitsLearnsThatItsReceiverHasEnded) {
    VirtualComputer vc({.mailbox_bytes = 200});
    auto receiver = vc.spawn(take_number);
    auto sender = vc.spawn(
        [](VirtualThreadId to) {
            while (self().try_send(to, std::string("filler"))) {
            }
            self().send(self().parent(), true);
            self().send(to, std::string("one too many"));
        },
        receiver.id());
    self().receive<bool>();
    receiver.cancel();
    EXPECT_THROW(sender.get(), ppdsm::ThreadEnded);
    EXPECT_THROW(receiver.get(), ppdsm::Cancelled);
}

TEST(BackPressure, FullMailboxesMakeSendersWait) {
    VirtualComputer vc({.mailbox_bytes = 1000});
    auto sender = vc.spawn(count_to, 1000);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(self().receive<Count>().value.value, i);
    sender.get();
}

TEST(BackPressure, TrySendSaysWhenThereIsNoRoom) {
    VirtualComputer vc({.mailbox_bytes = 1000});
    int sent = 0;
    while (self().try_send(self().id(), Count{sent})) ++sent;
    EXPECT_GE(sent, 2);
    EXPECT_LE(sent, 1000 / 4);
    self().receive<Count>();
    EXPECT_TRUE(self().try_send(self().id(), Count{sent}));
    EXPECT_FALSE(self().try_send(self().id(), Count{0}));
}

TEST(BackPressure, OneThatTriesInVainLetsOthersRun) {
    VirtualComputer vc({.workers = 1, .mailbox_bytes = 100});
    auto sender = vc.spawn([] {
        const auto to = self().receive<VirtualThreadId>().value;
        for (int i = 0; i < 3; ++i) {
            while (!self().try_send(to, i)) {
            }
        }
    });
    auto receiver = vc.spawn([] {
        int sum = 0;
        for (int i = 0; i < 3; ++i) sum += take_number();
        return sum;
    });
    self().send(sender.id(), receiver.id());
    EXPECT_EQ(receiver.get(), 3);
}

TEST(BackPressure, WhatIsLargerThanTheBoundGoesIntoAnEmptyMailbox) {
    VirtualComputer vc({.mailbox_bytes = 100});
    EXPECT_TRUE(self().try_send(self().id(), std::string(5000, 'x')));
    EXPECT_FALSE(self().try_send(self().id(), 1));
    EXPECT_EQ(self().receive<std::string>().value.size(), 5000U);
}

TEST(Multicast, ReachesAllAndNamesOneThatHasEnded) {
    VirtualComputer vc;
    auto ended = vc.spawn([] {});
    ended.wait();
    std::vector<VirtualThread<int>> threads;
    std::vector<VirtualThreadId> ids{ended.id()};
    threads.reserve(3);
    for (int i = 0; i < 3; ++i) {
        threads.push_back(vc.spawn(take_number));
        ids.push_back(threads.back().id());
    }
    EXPECT_THROW(self().multicast(ids, 6), ppdsm::ThreadEnded);
    EXPECT_EQ(when_all(threads), (std::vector<int>{6, 6, 6}));
}

TEST(Broadcast, ReachesTheSpawnedButNotMainNorItself) {
    VirtualComputer vc;
    std::vector<VirtualThread<int>> threads;
    threads.reserve(3);
    for (int i = 0; i < 3; ++i) threads.push_back(vc.spawn(take_number));
    auto caller = vc.spawn([] {
        self().broadcast(8);
        return self().try_receive<int>().has_value();
    });
    EXPECT_EQ(when_all(threads), (std::vector<int>{8, 8, 8}));
    EXPECT_FALSE(caller.get());
    EXPECT_FALSE(self().try_receive<int>());
}

TEST(Mailboxes, AreFoundByNameAndEachMessageGoesToOneReceiver) {
    VirtualComputer vc;
    std::vector<VirtualThread<std::vector<int>>> workers;
    workers.reserve(3);
    for (int i = 0; i < 3; ++i) {
        workers.push_back(vc.spawn([] {
            Mailbox<std::optional<int>> tasks("tasks");
            std::vector<int> taken;
            while (const auto task = tasks.receive().value) taken.push_back(*task);
            return taken;
        }));
    }
    Mailbox<std::optional<int>> tasks("tasks");
    EXPECT_EQ(tasks.name(), "tasks");
    for (int i = 0; i < 300; ++i) tasks.send(i);
    for (std::size_t i = 0; i < workers.size(); ++i) tasks.send(std::nullopt);
    std::set<int> seen;
    for (const auto& taken : when_all(workers)) {
        EXPECT_TRUE(std::is_sorted(taken.begin(), taken.end())) << "one sender: in order";
        for (const int task : taken) EXPECT_TRUE(seen.insert(task).second) << task << " came twice";
    }
    EXPECT_EQ(seen.size(), 300U);
    EXPECT_FALSE(tasks.try_receive());
    EXPECT_FALSE(tasks.receive_for(1ms));
}

TEST(Mailboxes, HaveOneType) {
    VirtualComputer vc;
    Mailbox<int> numbers("x");
    EXPECT_THROW(Mailbox<std::string>("x"), ppdsm::TypeMismatch);
    EXPECT_THROW(Mailbox<int>(""), ppdsm::Misuse);
    numbers.send(1);
    EXPECT_EQ(Mailbox<int>("x").receive().value, 1);
}

TEST(Mailboxes, HandlesAreForTheirMakerWhileItsComputerLasts) {
    std::optional<Mailbox<int>> old;
    {
        VirtualComputer vc;
        old.emplace("old");
        static Mailbox<int>* of_main;
        of_main = &*old;
        EXPECT_THROW(vc.spawn([] { of_main->send(1); }).get(), ppdsm::Misuse);
    }
    EXPECT_THROW(old->send(1), ppdsm::Misuse);
    VirtualComputer vc;
    Mailbox<int> other("other");
    EXPECT_THROW(old->send(1), ppdsm::Misuse);
    EXPECT_THROW(static_cast<void>(old->try_receive()), ppdsm::Misuse);
    EXPECT_FALSE(other.try_receive());
}

TEST(Mailboxes, AreBoundedToo) {
    VirtualComputer vc({.mailbox_bytes = 100});
    auto filler = vc.spawn([] {
        Mailbox<int> box("box");
        for (int i = 0; i < 50; ++i) box.send(i);
    });
    Mailbox<int> box("box");
    for (int i = 0; i < 50; ++i) EXPECT_EQ(box.receive().value, i);
    while (box.try_send(1)) {
    }
    EXPECT_TRUE(box.try_receive());
}

TEST(Deadlocks, AreToldToAllWithWhoWaitsForWhat) {
    VirtualComputer vc;
    auto first = vc.spawn({"first"}, [] {
        const auto other = self().receive<VirtualThreadId>().value;
        self().receive<double>(other);
    });
    auto second = vc.spawn({"second"}, [] { Mailbox<Count>("void").receive(); });
    self().send(first.id(), second.id());
    std::string text;
    try {
        first.get();
        ADD_FAILURE() << "nothing was thrown";
    } catch (const ppdsm::Deadlock& deadlock) {
        text = deadlock.what();
    }
    EXPECT_NE(text.find("(main) waits for the end of virtual thread 2 (first)"), text.npos) << text;
    EXPECT_NE(
        text.find("(first) waits for a message of type double from virtual thread 3 (second)"),
        text.npos)
        << text;
    EXPECT_NE(text.find("Count in mailbox \"void\""), text.npos) << text;
    EXPECT_THROW(first.get(), ppdsm::Deadlock) << "it had it too";
    EXPECT_THROW(second.get(), ppdsm::Deadlock);
    EXPECT_EQ(vc.spawn([] { return 1; }).get(), 1) << "the computer goes on";
}

TEST(Deadlocks, OfMainAloneAreSeenAtOnce) {
    VirtualComputer vc;
    EXPECT_THROW(self().receive<int>(), ppdsm::Deadlock);
    EXPECT_THROW(Mailbox<int>("x").receive(), ppdsm::Deadlock);
}

void fill(VirtualThreadId) {
    const auto other = self().receive<VirtualThreadId>().value;
    while (true) self().send(other, std::string(40, 'x'));
}

TEST(Deadlocks, OfTwoFullMailboxesAreSeen) {
    VirtualComputer vc({.mailbox_bytes = 1000});
    auto one = vc.spawn(fill, VirtualThreadId{});
    auto other = vc.spawn(fill, VirtualThreadId{});
    self().send(one.id(), other.id());
    self().send(other.id(), one.id());
    try {
        when_any(one, other);
        ADD_FAILURE() << "nothing was thrown";
    } catch (const ppdsm::Deadlock& deadlock) {
        EXPECT_NE(std::string(deadlock.what()).find("waits for room in the mailbox of"),
                  std::string::npos)
            << deadlock.what();
    }
    EXPECT_THROW(one.get(), ppdsm::Deadlock);
    EXPECT_THROW(other.get(), ppdsm::Deadlock);
}

TEST(Deadlocks, AreSeenWhenSomebodyWasWokenInVain) {
    VirtualComputer vc;
    const auto take_all = [] {
        Mailbox<int> box("box");
        while (true) self().send(self().parent(), box.receive().value);
    };
    auto one = vc.spawn(take_all);
    auto other = vc.spawn(take_all);
    Mailbox<int> box("box");
    for (int i = 0; i < 100; ++i) {
        box.send(i);  // Wakes both, and one gets it.
        EXPECT_EQ(self().receive<int>().value, i);
    }
    EXPECT_THROW(self().receive<int>(), ppdsm::Deadlock);
    EXPECT_THROW(one.get(), ppdsm::Deadlock);
    EXPECT_THROW(other.get(), ppdsm::Deadlock);
}

TEST(Deadlocks, AreToldAlsoToThoseThatAreCancelledBecauseOfThem) {
    static std::atomic<int> told;
    told = 0;
    const auto wait_for_nothing = [] {
        VirtualComputer vc;
        for (int i = 0; i < 3; ++i) {
            vc.spawn([] {
                try {
                    take_number();
                } catch (const ppdsm::Deadlock&) {
                    ++told;
                }
            });
        }
        take_number();
    };
    EXPECT_THROW(wait_for_nothing(), ppdsm::Deadlock);
    EXPECT_EQ(told, 3);
}

struct Token {
    std::uint64_t hops_left;
};

/// Passes tokens on, to one that the token decides, until it is told to stop.
int pass_tokens() {
    const auto ring = self().receive<std::vector<VirtualThreadId>>().value;
    int passed = 0;
    while (const std::uint64_t left = self().receive<Token>().value.hops_left) {
        ++passed;
        self().report(passed);
        if (left == 1) {
            self().send(self().parent(), true);
        } else {
            self().send(ring[left * 7 % ring.size()], Token{left - 1});
        }
    }
    return passed;
}

TEST(Deadlocks, AreNoneWhileAMessageIsUnderWay) {
    for (const unsigned workers : {0U, 1U, 3U}) {
        VirtualComputer vc({.workers = workers, .mailbox_bytes = 300});
        std::vector<VirtualThread<int>> threads;
        std::vector<VirtualThreadId> ring;
        int reported = 0;
        for (int i = 0; i < 5; ++i) {
            threads.push_back(vc.spawn(pass_tokens));
            threads.back().on_partial<int>([&](int) { ++reported; });
            ring.push_back(threads.back().id());
        }
        self().multicast(ring, ring);
        constexpr std::uint64_t kHops = 1000;
        for (int i = 0; i < 2; ++i) self().send(ring[0], Token{kHops});
        for (int i = 0; i < 2; ++i) self().receive<bool>();
        self().multicast(ring, Token{0});
        int passed = 0;
        for (const int by_one : when_all(threads)) passed += by_one;
        EXPECT_EQ(passed, 2 * kHops);
        EXPECT_EQ(reported, 2 * kHops);
    }
}

TEST(Deadlocks, AreNoneWhileSomebodyWaitsForATime) {
    VirtualComputer vc;
    auto waiter = vc.spawn(take_number);
    auto rescuer = vc.spawn(
        [](VirtualThreadId to) {
            self().receive_for<double>(20ms);
            self().send(to, 1);
        },
        waiter.id());
    EXPECT_EQ(waiter.get(), 1);
}

TEST(Deadlocks, EndThreadsThatNobodyWaitsFor) {
    VirtualComputer vc;
    vc.spawn(take_number);
    vc.spawn(take_number);
}

struct ManyTimes {
    std::string piece;
    std::uint64_t times = 0;
    template <class Archive>
    void serialize(Archive& archive) {
        archive(times);
        for (std::uint64_t i = 0; i < times; ++i) archive(piece);
    }
};

TEST(LargeMessages, OfAGibibyteTravelAndMoreAreOversized) {
    VirtualComputer vc;
    auto receiver = vc.spawn([] {
        const auto message = self().receive<ManyTimes>();
        return std::pair(message.value.times, message.value.piece.size());
    });
    ManyTimes gibibyte{std::string((1 << 20), 'x'), 1024};
    self().send(receiver.id(), gibibyte);
    EXPECT_EQ(receiver.get(), (std::pair<std::uint64_t, std::size_t>(1024, 1 << 20)));
    gibibyte.times = 1026;
    EXPECT_THROW(self().send(self().id(), gibibyte), ppdsm::Oversized);
}

}  // namespace
