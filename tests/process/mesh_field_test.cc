// Goal: programs on a mesh of separate machines end as they do by themselves, whatever happens to
// the machines and the network between them. Method: hosts of the test bed with a daemon each;
// peers are killed, frozen, cut off and drained, also at random moments (the seed is printed,
// PPDSM_TEST_SEED repeats it); what a program printed, wrote and returned is compared with a run by
// hand.
#include "tests/process/mesh_fixture.h"
#include "tests/testbed/test_bed.h"

namespace ppdsm::process_test {
namespace {

class MeshFieldTest : public MeshTest {
protected:
    void SetUp() override {
        MeshTest::SetUp();
        bed_ = std::make_unique<TestBed>(world(), environment());
    }
    void TearDown() override {
        // Also those that the bed cannot reach any more.
        where_.clear();
        for (auto& [name, peer] : peers_) {
            if (peer.daemon) peer.daemon->send_signal(SIGCONT);
        }
        bed_->heal();
        stop_daemons();
        bed_.reset();
        MeshTest::TearDown();
    }
    std::unique_ptr<ChildProcess> start(const Arguments& argv, const fs::path& cwd,
                                        Input input = {}) override {
        if (where_.empty()) return MeshTest::start(argv, cwd, std::move(input));
        return MeshTest::start(bed_->enter(where_, argv, cwd), world(), std::move(input));
    }
    std::string listen_address(const std::string& peer) override {
        return bed_->address(peer) + ":7717";
    }
    void add_host(const std::string& name, HostOptions options = {}) {
        directory("peer-" + name);
        directory("work");
        options.directories = {"peer-" + name};
        if (name == "a") options.directories.emplace_back("work");  // Nobody else has its files.
        bed_->add_host(name, options);
    }
    void start_field(const std::vector<std::string>& names = {"a", "b", "c"}) {
        for (const std::string& name : names) {
            add_host(name);
            start_peer(name);
        }
        join_all();
    }
    void join_all() {
        for (const auto& [name, peer] : peers_) {
            if (name != "a") {
                ASSERT_EQ(ask(name, {"join", invite("a")}).exit_code, 0);
            }
        }
        wait_for_mesh(peers_.size());
        become_user_of("a");
    }
    std::string state_from(const std::string& observer, const std::string& peer) {
        for (const Json& each : list_from(observer)) {
            if (each["name"] == peer) return each["state"];
        }
        return "";
    }
    bool all_others_say(const std::string& peer, const std::string& state) {
        return wait_until([&] {
            return std::ranges::all_of(peers_, [&](const auto& each) {
                return each.first == peer || state_from(each.first, peer) == state;
            });
        });
    }

    std::unique_ptr<TestBed> bed_;
};

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
    add_host("slow", {.directories = {}, .hidden = {}, .cpus = 0.05});
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
    const auto replicas = [&] {
        const Json rows = Json::parse(run_ppdsm({"ps", "--json"}).out);
        return rows.at(0)["replicas"].get<std::vector<std::string>>();
    };
    // The worker, the deployer and one more; a copy that fails at first is made again.
    ASSERT_TRUE(wait_until([&] { return replicas().size() == 3; }));
    const auto id_of = [&](const std::string& peer) {
        return ask(peer, {"show", "--json"}).exit_code == 0
                   ? Json::parse(ask(peer, {"show", "--json"}).out)["id"].get<std::string>()
                   : "";
    };
    const std::string c = id_of("c"), d = id_of("d");
    const bool had_c = std::ranges::count(replicas(), c) > 0;
    kill_peer(had_c ? "c" : "d");
    // Without a new generation: the last one is copied.
    EXPECT_TRUE(wait_until([&] { return std::ranges::count(replicas(), had_c ? d : c) > 0; }));
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 137);
}

// What happens to peers at random moments while a program runs.
class MeshFieldChaos : public MeshFieldTest, public testing::WithParamInterface<int> {
protected:
    void harm(Rng& rng, const std::string& peer) {
        switch (static_cast<int>(rng.fraction() * 4)) {
            case 0:
                kill_peer(peer);
                start_peer(peer);
                break;
            case 1:
                peers_.at(peer).daemon->send_signal(SIGSTOP);
                pause(rng, 4);
                peers_.at(peer).daemon->send_signal(SIGCONT);
                break;
            case 2:
                bed_->partition({peer});
                pause(rng, 4);
                bed_->heal();
                break;
            default:
                ask(peer, {"drain"});
                pause(rng, 2);
                ask(peer, {"undrain"});
        }
    }
    /// The moment is what is random; nothing is waited for.
    static void pause(Rng& rng, double most_seconds) {
        wait_until([] { return false; }, Seconds(rng.fraction() * most_seconds));
    }
};

TEST_P(MeshFieldChaos, EndsAsARunByHand) {
    Rng rng;
    const fs::path work = directory("work"), plain = directory("plain");
    Arguments job = steady_job();
    job.back().replace(job.back().find("30"), 2, "60");
    const Outcome by_hand = run_plain(job, plain);
    start_field();
    const auto exec = start_exec({"--checkpoint-every", "200ms", "--name", "job"}, job, work);
    for (int i = 0; i < 3 && !exec->has_ended(); ++i) {
        pause(rng, 2);
        // The submitter's machine is harmed in tests of its own.
        harm(rng, rng.fraction() < 0.5 ? "b" : "c");
    }
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
    EXPECT_TRUE(wait_until([&] {
        return std::ranges::all_of(peers_,
                                   [&](const auto& each) { return executor_on(each.first) == 0; });
    })) << "a copy runs on";
}

INSTANTIATE_TEST_SUITE_P(Courses, MeshFieldChaos, testing::Range(1, 5));

}  // namespace
}  // namespace ppdsm::process_test
