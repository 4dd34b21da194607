// Goal: a program that runs on the mesh ends as it does by itself, whichever peer dies, and no
// stranger gets in. Method: three real daemons on loopback, each with a home of its own; real
// programs under them; daemons, executors and links killed or frozen at chosen and random moments.
// What the run printed, wrote and returned is compared with a run by hand.
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "tests/process/mesh_fixture.h"

namespace ppdsm::process_test {
namespace {

TEST_F(MeshTest, ProgramsRunElsewhereAsTheyDoHere) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Arguments job = {"sh", "-c", "cat; echo to stderr >&2; pwd > where; rm where; exit 9"};
    const Outcome by_hand = run_plain(job, plain, Input::text_then_end("some text\n"));
    start_mesh();
    for (const char* peer : {"a", "b", "c"}) {
        const Outcome outcome =
            run_exec({"--on", peer}, job, work, Input::text_then_end("some text\n"));
        expect_same(by_hand, outcome, plain, work);
    }
}

TEST_F(MeshTest, AProgramGoesOnWhenItsPeerIsKilled) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_mesh();
    Rng rng;
    const auto exec = start_exec(often("b"), steady_job(), work);
    ASSERT_EQ(worker_of("job", 1 + static_cast<std::uint64_t>(rng.fraction() * 4)), "b");
    kill_peer("b");
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
    EXPECT_TRUE(wait_until([&] { return ready_from("a") == 2; }));
}

TEST_F(MeshTest, AProgramOutlivesOnePeerAfterTheOther) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_mesh();
    const auto exec = start_exec(often("b"), steady_job(), work);
    ASSERT_EQ(worker_of("job", 2), "b");
    kill_peer("b");
    const std::string second = worker_of("job", 4);
    ASSERT_FALSE(second.empty());
    start_peer("b");
    wait_for_mesh(3);
    if (second == "c" && !exec->has_ended()) kill_peer("c");
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
}

TEST_F(MeshTest, APeerThatComesBackFromSilenceIsFenced) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_mesh();
    const auto exec = start_exec(often("b"), steady_job(), work);
    ASSERT_EQ(worker_of("job", 2), "b");
    const pid_t old_executor = executor_on("b");
    ASSERT_GT(old_executor, 0);
    peers_.at("b").daemon->send_signal(SIGSTOP);
    EXPECT_TRUE(wait_until([&] {
        const std::string worker = worker_of("job");
        return exec->has_ended() || (!worker.empty() && worker != "b");
    }));
    peers_.at("b").daemon->send_signal(SIGCONT);
    EXPECT_TRUE(wait_until([&] { return process_state(old_executor) == 0; }))
        << "the incarnation that was given up runs on";
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
    wait_for_mesh(3);
}

TEST_F(MeshTest, AProgramGoesOnWhenItsExecutorIsKilled) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_mesh();
    const auto exec = start_exec(often("b"), steady_job(), work);
    ASSERT_EQ(worker_of("job", 2), "b");
    const pid_t executor = executor_on("b");
    ASSERT_GT(executor, 0);
    kill(executor, SIGKILL);
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
}

TEST_F(MeshTest, TheDeployersDaemonIsKilledAndGoesOnWithItsComputations) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_mesh();
    const auto exec = start_exec(often("b"), steady_job(), work);
    ASSERT_EQ(worker_of("job", 2), "b");
    const std::string vc = vc_called("job");
    kill_peer("a");
    const Outcome cut = exec->wait(kDeadline);
    EXPECT_NE(cut.exit_code, 0);
    EXPECT_TRUE(contains(cut.err, "ppdsm attach " + vc)) << cut.err;
    start_peer("a");
    const Outcome rest = run_ppdsm({"attach", vc});
    EXPECT_EQ(rest.exit_code, by_hand.exit_code) << rest.err;
    EXPECT_TRUE(none(text_difference(by_hand.out, cut.out + rest.out)));
    EXPECT_TRUE(none(text_difference(by_hand.out, run_ppdsm({"logs", vc}).out)));
    EXPECT_TRUE(none(tree_difference(read_tree(plain), read_tree(work))));
}

TEST_F(MeshTest, ADetachedRunIsFoundAgain) {
    start_mesh();
    const fs::path work = directory("work");
    Arguments options = often("b");
    options.emplace_back("--detach");
    const Outcome begun = run_exec(options, steady_job(), work);
    ASSERT_EQ(begun.exit_code, 0) << begun.err;
    const std::string vc = vc_called("job");
    EXPECT_EQ(begun.out, vc + "\n");
    EXPECT_EQ(run_ppdsm({"wait", vc}).exit_code, 7);
    EXPECT_TRUE(contains(run_ppdsm({"logs", vc}).out, "line 30"));
    EXPECT_TRUE(fs::exists(work / "d/log.txt"));
}

TEST_F(MeshTest, WhoWaitsForAProgramWaitsForItsDaemonToo) {
    start_mesh();
    const fs::path work = directory("work");
    Arguments options = often("b");
    options.emplace_back("--detach");
    const Outcome begun = run_exec(options, steady_job(), work);
    ASSERT_EQ(begun.exit_code, 0) << begun.err;
    const std::string vc = vc_called("job");
    const auto waiting = start({ppdsm(), "wait", vc}, world());
    const auto following = start({ppdsm(), "logs", "--follow", vc}, world());
    kill_peer("a");
    for (const auto& each : {waiting.get(), following.get()}) {
        EXPECT_TRUE(wait_until([&] { return contains(each->err_so_far(), "ppdsm peer start"); }));
    }
    start_peer("a");
    EXPECT_EQ(waiting->wait(kDeadline).exit_code, 7);
    const Outcome all = following->wait(kDeadline);
    EXPECT_EQ(all.exit_code, 0) << all.err;
    EXPECT_TRUE(contains(all.out, "line 30"));
}

TEST_F(MeshTest, WhatADaemonTookBeforeItDiedGoesOn) {
    start_mesh();
    kill_peer("a");
    start_peer("a", "deployment-made");
    wait_for_mesh(3);
    const Outcome exec = run_exec(often("b"), steady_job(), directory("work"));
    EXPECT_NE(exec.exit_code, 0);
    EXPECT_TRUE(contains(exec.err, "ppdsm ps")) << exec.err;
    peers_.at("a").daemon->wait(kDeadline);
    start_peer("a");
    EXPECT_EQ(run_ppdsm({"wait", "job"}).exit_code, 7);
    EXPECT_TRUE(contains(run_ppdsm({"logs", "job"}).out, "line 30"));
}

TEST_F(MeshTest, FilesComeHomeWithEachCommitWhenAskedTo) {
    start_mesh();
    const fs::path work = directory("work");
    Arguments options = often("b");
    options.insert(options.end(), {"--files", "commit"});
    const auto exec = start_exec(options, {"sh", "-c", "echo early > file; sleep 1000"}, work);
    ASSERT_EQ(worker_of("job"), "b");
    EXPECT_TRUE(wait_until([&] { return fs::exists(work / "file"); }));
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 137);
}

TEST_F(MeshTest, SignalsReachAProgramElsewhere) {
    start_mesh();
    const auto exec = start_exec(
        often("b"),
        {"sh", "-c", "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done"},
        directory("work"));
    ASSERT_EQ(worker_of("job", 1), "b");
    exec->send_signal(SIGTERM);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.exit_code, 5) << outcome.err;
    EXPECT_EQ(outcome.out, "ready\ncaught\n");
}

TEST_F(MeshTest, KillEndsAProgramElsewhere) {
    start_mesh();
    const auto exec = start_exec(often("b"), {"sleep", "1000"}, directory("work"));
    ASSERT_EQ(worker_of("job", 1), "b");
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.exit_code, 137) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "killed by `ppdsm kill`")) << outcome.err;
}

TEST_F(MeshTest, AProgramMovesWhileItRuns) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_mesh();
    const auto exec = start_exec({"--name", "job", "--on", "b"}, steady_job(), work);
    ASSERT_EQ(worker_of("job"), "b");
    // Before there is any generation, and back again.
    const Outcome there = run_ppdsm({"migrate", "job", "--to", "c"});
    EXPECT_EQ(there.exit_code, 0) << there.err;
    EXPECT_EQ(worker_of("job"), "c");
    EXPECT_TRUE(wait_until([&] { return executor_on("b") == 0; })) << "two copies run";
    const Outcome back = run_ppdsm({"migrate", "job", "--to", "a"});
    EXPECT_EQ(back.exit_code, 0) << back.err;
    EXPECT_EQ(worker_of("job"), "a");
    const Outcome outcome = exec->wait(kDeadline);
    expect_same(by_hand, outcome, plain, work);
    EXPECT_TRUE(contains(outcome.err, "ppdsm: moved to c (")) << outcome.err;
    EXPECT_FALSE(contains(outcome.err, "goes on from generation")) << "it never died";
}

TEST_F(MeshTest, AMoveThatCannotBeIsRefusedAndSaysWhy) {
    start_mesh();
    const auto exec =
        start_exec({"--name", "job", "--on", "b"}, {"sleep", "1000"}, directory("work"));
    ASSERT_EQ(worker_of("job"), "b");
    const auto refusal = [&](const char* to) {
        const Outcome outcome = run_ppdsm({"migrate", "job", "--to", to});
        EXPECT_EQ(outcome.exit_code, 125);
        return outcome.err;
    };
    EXPECT_TRUE(contains(refusal("b"), "runs at b"));
    EXPECT_TRUE(contains(refusal("nobody"), "nobody"));
    ASSERT_EQ(ask("c", {"drain"}).exit_code, 0);
    ASSERT_TRUE(wait_until([&] {
        return std::ranges::any_of(list_from("a"), [](const Json& peer) {
            return peer["name"] == "c" && peer.value("drained", false);
        });
    }));
    EXPECT_TRUE(contains(refusal("c"), "drained by its owner"));
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 137);
}

TEST_F(MeshTest, ADrainedPeersProgramsMoveAway) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_mesh();
    const auto exec = start_exec({"--name", "job", "--on", "b"}, steady_job(), work);
    ASSERT_EQ(worker_of("job"), "b");
    ASSERT_EQ(ask("b", {"drain"}).exit_code, 0);
    EXPECT_TRUE(wait_until([&] { return executor_on("b") == 0; }));
    EXPECT_FALSE(exec->has_ended()) << "it had no time to move";
    const Outcome outcome = exec->wait(kDeadline);
    expect_same(by_hand, outcome, plain, work);
    EXPECT_TRUE(contains(outcome.err, "it is drained")) << outcome.err;
}

TEST_F(MeshTest, ProgramsLeaveAMachineThatItsOwnerUses) {
    for (const char* name : {"a", "c"}) start_peer(name);
    start_peer("b", "", {"--yield-to-load", "0.2"});
    for (const char* name : {"b", "c"}) {
        ASSERT_EQ(ask(name, {"join", invite("a")}).exit_code, 0);
    }
    wait_for_mesh(3);
    environment()["PPDSM_HOME"] = peers_.at("a").home;
    // Of another session than the daemon's: the owner at work.
    const auto owner = start({"sh", "-c", "while :; do :; done"}, world());
    const auto exec =
        start_exec({"--name", "job", "--on", "b"}, {"sleep", "1000"}, directory("work"));
    EXPECT_TRUE(wait_until([&] {
        const std::string worker = worker_of("job");
        return !worker.empty() && worker != "b";
    }));
    owner->send_signal(SIGKILL);
    owner->wait(kDeadline);
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_TRUE(contains(outcome.err, "its owner uses it")) << outcome.err;
}

// Which peer's daemon, or executor, dies where. A daemon is started again where the run needs it.
struct FaultCase {
    const char* peer;
    const char* place;  ///< As in PPDSM_FAULT.
};
std::string fault_name(const testing::TestParamInfo<FaultCase>& each) {
    std::string text = std::string(each.param.peer) + "_" + each.param.place;
    std::replace_if(text.begin(), text.end(), [](char c) { return c == '-' || c == ':'; }, '_');
    return text;
}

class MeshFaults : public MeshTest, public testing::WithParamInterface<FaultCase> {
protected:
    /// Runs the steady job at b, does `meanwhile` once it runs, and expects what it gives by hand.
    void run_with_fault(const Arguments& options, const std::function<void()>& meanwhile) {
        const std::string victim = GetParam().peer;
        const fs::path work = directory("work"), plain = directory("plain");
        const Outcome by_hand = run_plain(steady_job(), plain);
        start_mesh();
        kill_peer(victim);
        start_peer(victim, GetParam().place);
        wait_for_mesh(3);
        const auto exec = start_exec(options, steady_job(), work);
        std::string vc;
        ASSERT_TRUE(wait_until([&] { return !(vc = vc_called("job")).empty(); }));
        meanwhile();
        const auto& daemon = peers_.at(victim).daemon;
        ASSERT_TRUE(wait_until([&] { return exec->has_ended() || daemon->has_ended(); }));
        if (daemon->has_ended()) {
            daemon->wait(kDeadline);
            start_peer(victim);
        }
        expect_same(by_hand, outcome_of(*exec, vc), plain, work);
    }
};

TEST_P(MeshFaults, DoNotShow) {
    run_with_fault(often("b"), [] {});
}

INSTANTIATE_TEST_SUITE_P(Places, MeshFaults,
                         testing::Values(FaultCase{"a", "deployer-commit:2"},
                                         FaultCase{"a", "deployer-committed:2"},
                                         FaultCase{"b", "replicate:2"},
                                         FaultCase{"b", "replicated:2"},
                                         FaultCase{"c", "replica-durable:2"}),
                         fault_name);

class MoveFaults : public MeshFaults {};

TEST_P(MoveFaults, LeaveExactlyOneCopy) {
    run_with_fault({"--name", "job", "--on", "b"}, [&] {
        ASSERT_EQ(worker_of("job"), "b");
        // Whether it moved is not asked: that the run is as if nothing had been is.
        run_ppdsm({"migrate", "job", "--to", "c"});
    });
}

// The first generation is the copy ahead, the second what has changed since.
INSTANTIATE_TEST_SUITE_P(Places, MoveFaults,
                         testing::Values(FaultCase{"a", "hand-over"}, FaultCase{"a", "deploy:2"},
                                         FaultCase{"b", "frozen:2"}, FaultCase{"b", "replicate:2"},
                                         FaultCase{"b", "replicated:2"},
                                         FaultCase{"c", "replica-durable:2"},
                                         FaultCase{"c", "host"}, FaultCase{"c", "restore"},
                                         FaultCase{"c", "restore-images"}),
                         fault_name);

TEST_F(MeshTest, OnlyTheInvitedGetIn) {
    for (const char* name : {"a", "b"}) start_peer(name);
    // A stranger that knows the address.
    const std::string address = list_from("a")[0]["addresses"][0];
    start_peer("s", "", {"--join", address});
    EXPECT_TRUE(wait_until([&] {
        const Outcome shown = ask("a", {"show", "--json"});
        return shown.exit_code == 0 && Json::parse(shown.out)["refused_connections"] > 0;
    }));
    EXPECT_EQ(list_from("a").size(), 1U);
    const std::string token = invite("a");
    EXPECT_TRUE(
        contains(ask("b", {"join", token.substr(0, token.size() - 3)}).err, "copy all of what"));
    EXPECT_TRUE(contains(ask("b", {"join", invite("b")}).err, "our own"));
    EXPECT_TRUE(contains(ask("b", {"join", invite("a", {"--valid", "1ms"})}).err, "has expired"));
    EXPECT_EQ(ask("b", {"join", token}).exit_code, 0);
    EXPECT_TRUE(contains(ask("s", {"join", token}).err, "has been used"));
    EXPECT_TRUE(wait_until([&] { return ready_from("a") == 2; }));
    // And out again.
    EXPECT_EQ(ask("a", {"trust", "remove", "b"}).exit_code, 0);
    EXPECT_TRUE(wait_until([&] { return ready_from("a") == 1; }));
}

TEST_F(MeshTest, AHomeHasOneDaemonAndAnAddressToo) {
    start_peer("a");
    const Outcome second = run_ppdsm({"peer", "start", "--home", peers_.at("a").home});
    EXPECT_NE(second.exit_code, 0);
    EXPECT_TRUE(contains(second.err, "a daemon runs already")) << second.err;
    const std::string address = list_from("a")[0]["addresses"][0];
    const Outcome taken =
        run_ppdsm({"peer", "start", "--home", directory("other"), "--listen", address});
    EXPECT_NE(taken.exit_code, 0);
    EXPECT_TRUE(contains(taken.err, "choose another with --listen")) << taken.err;
    EXPECT_EQ(run_ppdsm({"peer", "list", "--home", directory("none")}).exit_code, 125);
}

TEST_F(MeshTest, ADrainedPeerTakesNoProgram) {
    start_mesh();
    ASSERT_EQ(ask("b", {"drain"}).exit_code, 0);
    ASSERT_TRUE(wait_until([&] {
        for (const Json& peer : list_from("a")) {
            if (peer["name"] == "b" && peer.value("drained", false)) return true;
        }
        return false;
    }));
    for (int i = 0; i < 3; ++i) {
        const auto exec =
            start_exec({"--name", "job" + std::to_string(i)}, {"sleep", "0.5"}, directory("work"));
        EXPECT_NE(worker_of("job" + std::to_string(i)), "b");
        EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
    }
}

}  // namespace
}  // namespace ppdsm::process_test
