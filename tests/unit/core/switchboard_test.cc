// Goal: each rule by which a computer's calls are answered holds. Method: calls in, answers out,
// time given.
#include "tests/unit/core/switchboard_driver.h"

namespace ppdsm {
namespace {

using namespace switchboard;

constexpr ThreadId kRoot = kRootThread;

TEST_F(SwitchboardTest, ASpawnedThreadBeginsWithItsArgumentsAndItsResultComesBack) {
    open();
    const ThreadId child = spawn(kRoot, "island");
    const auto& beginning = content<Beginning>(child);
    EXPECT_EQ(beginning.parent, kRoot);
    EXPECT_EQ(beginning.name, "island");
    EXPECT_EQ(text_of(beginning.arguments), "arguments");
    EXPECT_FALSE(next_event(kRoot));
    end(child, "result");
    ASSERT_TRUE(has_answer(kRoot));
    const auto& event = content<ThreadEvent>(kRoot);
    EXPECT_EQ(event.kind, abi::kEnded);
    EXPECT_EQ(event.thread, child);
    EXPECT_EQ(text_of(event.outcome.value), "result");
}

TEST_F(SwitchboardTest, PartialResultsComeInOrderBeforeTheEnd) {
    open();
    const ThreadId child = spawn(kRoot);
    EXPECT_TRUE(call(child, call::Report{value("1")}));
    EXPECT_TRUE(call(child, call::Report{value("2")}));
    end(child, "3");
    for (const char* wanted : {"1", "2", "3"}) {
        ASSERT_TRUE(next_event(kRoot));
        EXPECT_EQ(text_of(content<ThreadEvent>(kRoot).outcome.value), wanted);
    }
}

TEST_F(SwitchboardTest, ReportersWaitForRoomAtTheirSpawner) {
    open();
    const ThreadId child = spawn(kRoot);
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(call(child, call::Report{value("x")}));
    EXPECT_FALSE(call(child, call::Report{value("x")}));
    EXPECT_TRUE(next_event(kRoot));
    EXPECT_TRUE(has_answer(child));
}

TEST_F(SwitchboardTest, MessagesOfASenderKeepTheirOrderAndOthersStay) {
    open();
    const ThreadId a = spawn(kRoot), b = spawn(kRoot);
    for (const char* text : {"a1", "a2"}) EXPECT_TRUE(send(a, kRoot, text));
    EXPECT_TRUE(send(b, kRoot, "b1"));
    ASSERT_TRUE(receive(kRoot, b));
    EXPECT_EQ(received(kRoot), "b1");
    for (const char* text : {"a1", "a2"}) {
        ASSERT_TRUE(receive(kRoot));
        EXPECT_EQ(received(kRoot), text);
    }
}

TEST_F(SwitchboardTest, AFullMailboxHoldsItsSenderUpUntilThereIsRoom) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_TRUE(send(kRoot, a, std::string(900, 'x')));
    EXPECT_TRUE(send(kRoot, a, std::string(200, 'y'), 0));
    EXPECT_EQ(answer(kRoot).code, abi::kFull);
    EXPECT_FALSE(send(kRoot, a, std::string(200, 'z')));
    ASSERT_TRUE(receive(a));
    EXPECT_EQ(received(a).size(), 900U);
    EXPECT_EQ(answer(kRoot).code, abi::kDone);
    ASSERT_TRUE(receive(a));
    EXPECT_EQ(received(a), std::string(200, 'z'));
}

TEST_F(SwitchboardTest, AnEmptyMailboxTakesAMessageThatIsLargerThanItsBound) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_TRUE(send(kRoot, a, std::string(5000, 'x')));
}

TEST_F(SwitchboardTest, ATimeLimitEndsAWait) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_FALSE(receive(a, kNoThread, 5'000'000));
    ASSERT_EQ(board_.next_tick_us(), now_us_ + 5'000);
    now_us_ += 5'000;
    step(Tick{});
    ASSERT_TRUE(has_answer(a));
    EXPECT_EQ(answer(a).code, abi::kTimedOut);
    EXPECT_EQ(board_.next_tick_us(), std::nullopt);
}

TEST_F(SwitchboardTest, EventsEndAWaitForSomethingElse) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_FALSE(receive(kRoot));
    end(a, "x");
    ASSERT_TRUE(has_answer(kRoot));
    EXPECT_EQ(answer(kRoot).code, abi::kEvents);
}

TEST_F(SwitchboardTest, WhenAllWaitEachIsToldWhoWaitsForWhat) {
    open();
    const ThreadId a = spawn(kRoot, "a"), b = spawn(kRoot, "b");
    EXPECT_FALSE(receive(a, b));
    EXPECT_FALSE(receive(b));
    EXPECT_TRUE(next_event(kRoot)) << "nobody is left to wait for";
    for (const ThreadId each : {a, b, kRoot}) {
        ASSERT_TRUE(has_answer(each));
        EXPECT_EQ(answer(each).code, abi::kDeadlock);
        EXPECT_NE(
            answer(each).text.find("(a) waits for a message of type text from virtual thread"),
            std::string::npos)
            << answer(each).text;
    }
}

TEST_F(SwitchboardTest, AWaitWithATimeLimitIsNoDeadlock) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_FALSE(receive(a, kNoThread, 1'000'000'000));
    EXPECT_FALSE(next_event(kRoot));
    EXPECT_FALSE(has_answer(a));
}

TEST_F(SwitchboardTest, ACancelledThreadHearsItFromEveryCallAndMayStillEnd) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_FALSE(receive(a));
    EXPECT_TRUE(call(kRoot, call::Cancel{a}));
    EXPECT_EQ(answer(a).code, abi::kCancelled);
    EXPECT_TRUE(call(a, call::Report{value("x")}));
    EXPECT_EQ(answer(a).code, abi::kCancelled);
    EXPECT_TRUE(call(a, call::End{{abi::kException, value("gone", 3)}}));
    step(Gone{a, "exit code 0"});
    ASSERT_TRUE(next_event(kRoot));
    EXPECT_EQ(content<ThreadEvent>(kRoot).outcome.kind, abi::kException);
}

TEST_F(SwitchboardTest, AMessageToOneThatHasEndedIsRefused) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_TRUE(send(kRoot, a, std::string(990, 'x')));
    EXPECT_FALSE(send(kRoot, a, "waits for room"));
    end(a, "");
    // First the event of the end, then what came of the call.
    EXPECT_EQ(answer(kRoot).code, abi::kThreadEnded);
    EXPECT_TRUE(send(kRoot, ThreadId{99}, "x"));
    EXPECT_EQ(answer(kRoot).code, abi::kMisuse);
}

TEST_F(SwitchboardTest, ADeadProcessIsTheOutcomeOfItsThread) {
    open();
    const ThreadId a = spawn(kRoot);
    step(Gone{a, "killed by SIGSEGV at p"});
    ASSERT_TRUE(next_event(kRoot));
    EXPECT_EQ(content<ThreadEvent>(kRoot).outcome.kind, abi::kCrashed);
    EXPECT_EQ(text_of(content<ThreadEvent>(kRoot).outcome.value), "killed by SIGSEGV at p");
}

TEST_F(SwitchboardTest, WhomNobodyMayRunIsToldWithTheReasons) {
    open();
    EXPECT_TRUE(call(kRoot, call::Spawn{}));
    step(NotPlaced{content<ThreadId>(kRoot), "p: no memory"});
    ASSERT_TRUE(next_event(kRoot));
    EXPECT_EQ(content<ThreadEvent>(kRoot).outcome.kind, abi::kUnplaced);
}

TEST_F(SwitchboardTest, NoMoreRunThanThereAreSlotsAndWhoWaitsGivesItsUp) {
    open(1);
    const ThreadId a = spawn(kRoot), b = spawn(kRoot);
    EXPECT_EQ(started_, std::vector{a});
    EXPECT_FALSE(receive(a));  // Now b may.
    EXPECT_EQ(started_, (std::vector{a, b}));
    step(Placed{b, "p"});
    EXPECT_TRUE(call(b, call::Begin{}));
    EXPECT_TRUE(send(b, a, "go"));
    EXPECT_FALSE(has_answer(a)) << "b runs";
    end(b, "");
    ASSERT_TRUE(has_answer(a));
    EXPECT_EQ(received(a), "go");
}

TEST_F(SwitchboardTest, WhoAsksInVainLetsAnotherRun) {
    open(1);
    const ThreadId a = spawn(kRoot), b = spawn(kRoot);
    EXPECT_FALSE(receive(a, kNoThread, 0));
    EXPECT_EQ(started_, (std::vector{a, b}));
    end(b, "");
    EXPECT_EQ(answer(a).code, abi::kTimedOut);
}

TEST_F(SwitchboardTest, NamedMailboxesBelongToAllAndHaveOneType) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_TRUE(call(kRoot, call::OpenMailbox{"tasks", 7}));
    const MailboxId tasks = content<MailboxId>(kRoot);
    EXPECT_TRUE(call(a, call::OpenMailbox{"tasks", 7}));
    EXPECT_EQ(content<MailboxId>(a), tasks);
    EXPECT_TRUE(call(a, call::OpenMailbox{"tasks", 8}));
    EXPECT_EQ(answer(a).code, abi::kTypeMismatch);
    EXPECT_FALSE(call(a, call::Receive{tasks, {}, 7, "text"}));
    EXPECT_TRUE(call(kRoot, call::Send{{}, tasks, value("task")}));
    EXPECT_EQ(received(a), "task");
}

TEST_F(SwitchboardTest, ClosingWaitsForAllOthers) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_FALSE(call(kRoot, call::Close{true}));
    EXPECT_TRUE(receive(a));
    EXPECT_EQ(answer(a).code, abi::kCancelled);
    EXPECT_FALSE(has_answer(kRoot));
    end(a, "");
    EXPECT_TRUE(has_answer(kRoot));
    open();  // Another computer of the same program.
}

TEST_F(SwitchboardTest, TheProgramsEndStopsItsThreads) {
    open();
    const ThreadId a = spawn(kRoot);
    step(Gone{kRoot, "exit code 0"});
    EXPECT_EQ(stopped_, std::vector{a});
    EXPECT_TRUE(board_.threads().empty());
}

TEST_F(SwitchboardTest, OpeningWaitsForTheWorkersThatItNeeds) {
    call::Open open;
    open.options.min_workers = 2;
    EXPECT_FALSE(call(kRoot, open));
    step(WorkerJoined{"p"});
    EXPECT_FALSE(has_answer(kRoot));
    step(WorkerJoined{"q"});
    EXPECT_TRUE(has_answer(kRoot));
    step(WorkerLost{"q"});
    std::string seen;
    while (next_event(kRoot, 0) && answer(kRoot).code == abi::kDone) {
        const auto& event = content<ThreadEvent>(kRoot);
        seen += (event.kind == abi::kWorkerLost ? "-" : "+") + text_of(event.outcome.value);
    }
    EXPECT_EQ(seen, "+p+q-q");
}

TEST_F(SwitchboardTest, AMoveIsTold) {
    open();
    const ThreadId a = spawn(kRoot);
    step(Placed{a, "q"});
    ASSERT_TRUE(next_event(kRoot));
    const auto& event = content<ThreadEvent>(kRoot);
    EXPECT_EQ(event.kind, abi::kThreadMoved);
    EXPECT_EQ(event.from, "p");
    EXPECT_EQ(text_of(event.outcome.value), "q");
}

// Recovery.

TEST_F(SwitchboardTest, WhoIsResumedIsGivenTheSameAnswersAndNothingHappensTwice) {
    open();
    const ThreadId a = spawn(kRoot);  // Its call 1.
    EXPECT_TRUE(send(kRoot, a, "m1"));
    EXPECT_TRUE(send(kRoot, a, "m2"));
    EXPECT_TRUE(receive(a));             // 2
    EXPECT_TRUE(send(a, kRoot, "out"));  // 3
    step(Covered{a, 1});
    step(RolledBack{a, 1});
    ASSERT_TRUE(repeat(a, 2, call::Receive{{}, kNoThread, 7, "text"}));
    EXPECT_EQ(received(a), "m1");
    ASSERT_TRUE(repeat(a, 3, call::Send{kRoot, {}, value("out")}));
    EXPECT_TRUE(receive(a));
    EXPECT_EQ(received(a), "m2");
    EXPECT_TRUE(receive(kRoot));
    EXPECT_TRUE(receive(kRoot, kNoThread, 0));
    EXPECT_EQ(answer(kRoot).code, abi::kTimedOut);
    EXPECT_EQ(failure_, "");
}

TEST_F(SwitchboardTest, AWaitIsForgottenWithItsProcess) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_FALSE(receive(a));
    step(RolledBack{a, 1});
    EXPECT_FALSE(next_event(kRoot)) << "it runs: no deadlock";
    EXPECT_FALSE(has_answer(kRoot));
    EXPECT_TRUE(repeat(a, 2, call::Send{kRoot, {}, value("another way")}));
    EXPECT_EQ(failure_, "");
}

TEST_F(SwitchboardTest, WhatWasOnlyTakenIsGivenBackToOneThatGoesAnotherWay) {
    open();
    const ThreadId a = spawn(kRoot);
    for (const char* text : {"m1", "m2"}) EXPECT_TRUE(send(kRoot, a, text));
    EXPECT_TRUE(receive(a));
    EXPECT_TRUE(receive(a));
    step(RolledBack{a, 1});
    ASSERT_TRUE(repeat(a, 2, call::Members{}));
    for (const char* text : {"m1", "m2"}) {
        ASSERT_TRUE(repeat(a, text[1] == '1' ? 3 : 4, call::Receive{{}, kNoThread, 7, "text"}));
        EXPECT_EQ(received(a), text);
    }
    EXPECT_EQ(failure_, "");
}

TEST_F(SwitchboardTest, TheComputerFailsWhenOneGoesAnotherWayThanOthersHaveSeen) {
    open();
    const ThreadId a = spawn(kRoot, "gambler");
    EXPECT_TRUE(send(a, kRoot, "heads"));
    step(RolledBack{a, 1});
    EXPECT_FALSE(repeat(a, 2, call::Send{kRoot, {}, value("tails")}));
    EXPECT_NE(failure_.find("(gambler) was resumed, and its call 2 is another than before"),
              std::string::npos)
        << failure_;
}

TEST_F(SwitchboardTest, AResultCountsWhenItsProcessHasEnded) {
    open();
    const ThreadId a = spawn(kRoot);
    EXPECT_FALSE(next_event(kRoot));
    EXPECT_TRUE(call(a, call::End{{abi::kResult, value("first")}}));
    EXPECT_FALSE(has_answer(kRoot));
    step(RolledBack{a, 1});  // Its machine died before that.
    EXPECT_TRUE(repeat(a, 2, call::End{{abi::kResult, value("second")}}));
    EXPECT_EQ(failure_, "");
    step(Gone{a, "exit code 0"});
    ASSERT_TRUE(has_answer(kRoot));
    EXPECT_EQ(text_of(content<ThreadEvent>(kRoot).outcome.value), "second");
}

TEST_F(SwitchboardTest, AGenerationLaterThanWhatIsKnownIsRefused) {
    open();
    const ThreadId a = spawn(kRoot);
    step(RolledBack{a, 5});
    EXPECT_NE(failure_, "");
}

TEST_F(SwitchboardTest, AnAnswerHeldForASlotIsGivenToTheResumedOne) {
    open(1);
    const ThreadId a = spawn(kRoot), b = spawn(kRoot);
    EXPECT_FALSE(receive(a));
    step(Placed{b, "p"});
    EXPECT_TRUE(call(b, call::Begin{}));
    EXPECT_TRUE(send(b, a, "go"));
    EXPECT_FALSE(has_answer(a));
    step(RolledBack{a, 1});
    ASSERT_TRUE(repeat(a, 2, call::Receive{{}, kNoThread, 7, "text"}));
    EXPECT_EQ(received(a), "go");
}

}  // namespace
}  // namespace ppdsm
