// Goal: what happens to machines at random moments does not show in what programs print, write and
// return. Method: hosts of the test bed with a daemon each, of which peers - the submitter's too -
// are killed, frozen, cut off, drained, and killed in the middle of a move, at moments and in an
// order that the seed decides (it is printed; PPDSM_TEST_SEED repeats it); the outcome is compared
// with a run by hand. ci/long.sh runs other courses by the hour.
#include "tests/process/mesh_field.h"
#include "tests/process/third_party.h"

namespace ppdsm::process_test {
namespace {

class MeshChaos : public MeshFieldTest {
protected:
    struct Program {
        Arguments argv;
        std::function<void(const fs::path& directory)> prepare;  ///< Makes its files; may be empty.
    };

    void expect_unharmed(const Program& program) {
        const fs::path work = directory("work"), plain = directory("plain");
        for (const fs::path& each : {work, plain}) {
            if (program.prepare) program.prepare(each);
        }
        const Outcome by_hand = run_plain(program.argv, plain);
        start_field();
        const auto exec =
            start_exec({"--checkpoint-every", "300ms", "--name", "job"}, program.argv, work);
        std::string vc;
        ASSERT_TRUE(wait_until([&] { return !(vc = vc_called("job")).empty(); }));
        for (int i = 0; i < kHarms && !has_ended(vc); ++i) {
            pause(2);
            harm();
        }
        expect_same(by_hand, outcome_of(*exec, vc), plain, work);
        EXPECT_TRUE(wait_until([&] {
            return std::ranges::all_of(
                peers_, [&](const auto& each) { return executor_on(each.first) == 0; });
        })) << "a copy runs on";
    }

private:
    static constexpr int kHarms = 3;

    void harm() {
        const double choice = rng_.fraction();
        const std::string victim = choice < 0.2 ? "a" : choice < 0.6 ? "b" : "c";
        switch (static_cast<int>(rng_.fraction() * 5)) {
            case 0: return restart(victim);
            case 1:
                peers_.at(victim).daemon->send_signal(SIGSTOP);
                pause(4);
                peers_.at(victim).daemon->send_signal(SIGCONT);
                return;
            case 2:
                bed_->partition({victim});
                pause(4);
                return bed_->heal();
            case 3:
                ask(victim, {"drain"});
                pause(2);
                ask(victim, {"undrain"});
                return;
            default: return restart_in_a_move(victim);
        }
    }
    void restart(const std::string& peer) {
        kill_peer(peer);
        start_peer(peer);
    }
    /// At either end of it, or of the deployer.
    void restart_in_a_move(const std::string& victim) {
        const std::string target = rng_.fraction() < 0.5 ? "b" : "c";
        const auto move = start({ppdsm(), "migrate", "job", "--to", target}, world());
        pause(1);
        restart(victim);
        move->wait(kDeadline);  // Refused, done or broken off: the program does not show it.
    }
    /// The moment is what is random; nothing is waited for.
    void pause(double most_seconds) {
        wait_until([] { return false; }, Seconds(rng_.fraction() * most_seconds));
    }
    bool has_ended(const std::string& vc) {
        for (const Json& each : Json::parse(run_ppdsm({"ps", "--json"}).out)) {
            if (each["id"] == vc) return each.contains("exit");
        }
        return false;
    }

    Rng rng_;
};

class SteadyJob : public MeshChaos, public testing::WithParamInterface<int> {};

TEST_P(SteadyJob, EndsAsByHand) {
    Arguments job = steady_job();
    job.back().replace(job.back().find("30"), 2, "60");
    expect_unharmed({job, {}});
}

INSTANTIATE_TEST_SUITE_P(Courses, SteadyJob, testing::Range(1, 5));

class ThirdParties : public MeshChaos, public testing::WithParamInterface<std::size_t> {};

TEST_P(ThirdParties, EndAsByHand) {
    const ThirdParty& party = third_parties()[GetParam()];
    if (const std::optional<std::string> missing = missing_command(party.commands)) {
        GTEST_SKIP() << "this machine has no " << *missing << ": apt-get install it";
    }
    if (party.compares_inodes) GTEST_SKIP() << "it can go on only where its files are";
    expect_unharmed({party.argv, party.prepare});
}

INSTANTIATE_TEST_SUITE_P(Courses, ThirdParties, testing::Range<std::size_t>(0, 10),
                         [](const auto& each) { return third_parties()[each.param].name; });

}  // namespace
}  // namespace ppdsm::process_test
