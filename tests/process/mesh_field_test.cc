// Goal: programs on a mesh of separate machines end as they do by themselves, whatever happens to
// the machines and the network between them. Method: hosts of the test bed with a daemon each; what
// a program printed, wrote and returned is compared with a run by hand. Harm at random moments is
// in mesh_chaos_test.cc.
#include "tests/process/mesh_field.h"

namespace ppdsm::process_test {
namespace {

TEST_F(MeshFieldTest, ASilentPeerIsKnownDeadAndItsProgramGoesOnOnce) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_field();
    const auto exec = start_exec(often("b"), steady_job(), work);
    ASSERT_EQ(worker_of("job", 2), "b");
    const pid_t old_executor = executor_on("b");
    ASSERT_GT(old_executor, 0);
    bed_->partition({"b"});
    EXPECT_TRUE(wait_until(
        [&] { return state_from("a", "b") == "dead" && state_from("c", "b") == "dead"; }));
    EXPECT_TRUE(wait_until([&] {
        const std::string worker = worker_of("job");
        return exec->has_ended() || (!worker.empty() && worker != "b");
    }));
    bed_->heal();
    EXPECT_TRUE(wait_until([&] { return process_state(old_executor) == 0; }))
        << "the incarnation that was given up runs on";
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
    wait_for_mesh(3);
}

TEST_F(MeshFieldTest, ASlowAndLossyNetworkChangesNothing) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_field();
    for (const auto& [one, other] : {std::pair("a", "b"), {"a", "c"}, {"b", "c"}}) {
        bed_->set_delay(one, other, std::chrono::milliseconds(20));
        bed_->set_loss(one, other, 0.02);
    }
    const auto exec = start_exec(often("b"), steady_job(), work);
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
    EXPECT_EQ(state_from("a", "b"), "alive");
    EXPECT_EQ(state_from("a", "c"), "alive");
}

TEST_F(MeshFieldTest, AStarvedPeerIsNotHeldDead) {
    add_host("a");
    add_host("b");
    add_host("slow", {.directories = {}, .hidden = {}, .cpus = 0.05, .disk_bytes = 0});
    for (const char* name : {"a", "b", "slow"}) start_peer(name);
    join_all();
    // While something else in it takes all that it gets.
    where_ = "slow";
    const auto load = start({"sh", "-c", "while :; do :; done"}, world());
    where_ = "a";
    std::string lost;
    wait_until(
        [&] {
            for (const char* observer : {"a", "b"}) {
                if (state_from(observer, "slow") == "dead") lost = observer;
            }
            return !lost.empty();
        },
        Seconds(20));
    EXPECT_EQ(lost, "") << lost << " held it dead though it lived";
    load->send_signal(SIGKILL);
    load->wait(kDeadline);
}

TEST_F(MeshFieldTest, ALostReplicaIsReplacedAtOnce) {
    start_field({"a", "b", "c", "d"});
    const auto exec =
        start_exec({"--checkpoint-every", "1h", "--name", "job", "--on", "b", "--replicas", "2"},
                   {"sleep", "1000"}, directory("work"));
    ASSERT_EQ(worker_of("job"), "b");
    ASSERT_EQ(run_ppdsm({"checkpoint", "create", "job"}).exit_code, 0);
    // The worker, the deployer and one more; a copy that fails at first is made again.
    ASSERT_TRUE(wait_until([&] { return replicas_of("job").size() == 3; }));
    const std::string lost = replicas_of("job").contains("c") ? "c" : "d";
    kill_peer(lost);
    // Without a new generation: the last one is copied.
    EXPECT_TRUE(wait_until([&] { return replicas_of("job").contains(lost == "c" ? "d" : "c"); }));
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 137);
}

TEST_F(MeshFieldTest, AFullDiskOfAReplicaSendsTheCopyElsewhere) {
    add_host("a");
    add_host("b");
    constexpr std::uint64_t kDiskBytes = std::uint64_t{64} << 20;
    for (const char* name : {"c", "d"})
        add_host(name, {.directories = {}, .hidden = {}, .cpus = 0, .disk_bytes = kDiskBytes});
    for (const char* name : {"a", "b", "c", "d"}) start_peer(name);
    join_all();
    const auto exec = start_exec(
        {"--checkpoint-every", "1h", "--name", "job", "--on", "b", "--replicas", "2"},
        {"sh", "-c",
         "while ! read line; do :; done; head -c 16777216 /dev/urandom > big; sleep 1000"},
        directory("work"), Input::open_pipe());
    ASSERT_EQ(worker_of("job"), "b");
    ASSERT_EQ(run_ppdsm({"checkpoint", "create", "job"}).exit_code, 0);
    ASSERT_TRUE(wait_until([&] { return replicas_of("job").size() == 3; }));
    const std::string full = replicas_of("job").contains("c") ? "c" : "d";
    const std::string other = full == "c" ? "d" : "c";
    where_ = full;
    // Until nothing more fits.
    const auto filler =
        start({"sh", "-c", "cat /dev/zero > '" + (peers_.at(full).home / "filler").string() + "'"},
              world());
    EXPECT_NE(filler->wait(kDeadline).exit_code, 0);
    where_ = "a";
    exec->write_input("go\n");
    ASSERT_TRUE(wait_until([&] { return runs_on("b", "sleep"); }));
    ASSERT_EQ(run_ppdsm({"checkpoint", "create", "job"}).exit_code, 0);
    EXPECT_TRUE(wait_until([&] { return replicas_of("job").contains(other); }))
        << "the copy that did not fit was not made elsewhere";
    EXPECT_FALSE(replicas_of("job").contains(full));
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_TRUE(contains(outcome.err, "No space left")) << outcome.err;
}

}  // namespace
}  // namespace ppdsm::process_test
