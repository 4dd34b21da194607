// Goal: a C++ program that spawns virtual threads spreads over a mesh, each a process of its own,
// and comes to what it comes to by itself, whoever dies or moves meanwhile. Method: real daemons,
// the kernels and a program of one behaviour a run; peers killed in the middle.
#include "tests/process/mesh_fixture.h"

namespace ppdsm::process_test {
namespace {

class MeshThreads : public MeshTest {
protected:
    static Arguments kernel(Arguments argv) {
        argv.front() = PPDSM_KERNELS "/" + argv.front();
        return argv;
    }
    static Arguments behave(const std::string& how) { return {PPDSM_LINKED_PROGRAM, how}; }
    static Arguments often() { return {"--checkpoint-every", "300ms", "--name", "job"}; }
    /// About six seconds of five processes that exchange a message in each generation.
    static Arguments long_life() {
        return kernel({"life", "--size", "600", "--generations", "1500", "--workers", "4"});
    }
    struct Thread {
        std::string id;
        std::string peer;
        std::uint64_t generation = 0;
    };
    /// The program's and its virtual threads', by name.
    std::map<std::string, Thread> threads() {
        std::map<std::string, Thread> found;
        const Outcome outcome = run_ppdsm({"ps", "--json"});
        if (outcome.exit_code != 0) return found;
        for (const Json& vc : Json::parse(outcome.out)) {
            if (vc["state"] != "running") continue;
            found[vc["name"]] = {vc["id"], vc["peer"].get<std::string>().substr(0, 1),
                                 vc.value("generation", std::uint64_t{0})};
        }
        return found;
    }
    /// All of them run, from a generation on.
    bool wait_for_threads(std::size_t count, std::uint64_t generation = 2) {
        return wait_until([&] {
            const auto all = threads();
            return all.size() == count && std::ranges::all_of(all, [&](const auto& each) {
                       return each.second.generation >= generation;
                   });
        });
    }
    void expect_answer(const Outcome& plain, const Outcome& outcome) {
        EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
        EXPECT_EQ(outcome.out, plain.out) << outcome.err;
    }
};

class EveryKernel : public MeshThreads, public testing::WithParamInterface<Arguments> {};

TEST_P(EveryKernel, AnswersAsByItself) {
    const Arguments argv = kernel(GetParam());
    const Outcome plain = run_plain(argv, directory("plain"));
    ASSERT_EQ(plain.exit_code, 0) << plain.err;
    start_mesh();
    expect_answer(plain, run_exec({}, argv, directory("work")));
    // The program and at least two virtual threads were deployed.
    EXPECT_GE(Json::parse(run_ppdsm({"ps", "--all", "--json"}).out).size(), 3U);
}
INSTANTIATE_TEST_SUITE_P(
    Spread, EveryKernel,
    testing::Values(Arguments{"pi", "--size", "2000000", "--check"},
                    Arguments{"nqueens", "--size", "8", "--check"},
                    Arguments{"mandelbrot", "--size", "100", "--check", "--output", "picture.png"},
                    Arguments{"life", "--size", "60", "--generations", "30", "--check"},
                    Arguments{"ga_tsp", "--size", "20", "--generations", "100", "--in-step"}),
    [](const auto& each) { return each.param.front(); });

TEST_F(MeshThreads, SpreadOverThePeersAndShowWhereTheyAre) {
    start_mesh();
    const auto exec = start_exec(often(), long_life(), directory("work"));
    ASSERT_TRUE(wait_for_threads(5));
    std::set<std::string> peers;
    for (const auto& [name, thread] : threads()) peers.insert(thread.peer);
    // How many depends on how busy the machine seems to each.
    EXPECT_GE(peers.size(), 2U);
    EXPECT_TRUE(threads().contains("job/2"));
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
}

TEST_F(MeshThreads, GoOnWithWhatTheyHadSaidWhenAPeerIsKilled) {
    const Outcome plain = run_plain(long_life(), directory("plain"));
    start_mesh();
    const auto exec = start_exec(often(), long_life(), directory("work"));
    ASSERT_TRUE(wait_for_threads(5));
    kill_peer("b");
    kill_peer("c");
    expect_answer(plain, exec->wait(kDeadline));
}

TEST_F(MeshThreads, MoveWhileTheySpeak) {
    const Outcome plain = run_plain(long_life(), directory("plain"));
    start_mesh();
    const auto exec = start_exec(often(), long_life(), directory("work"));
    ASSERT_TRUE(wait_for_threads(5));
    for (const auto& [name, thread] : threads()) {
        const std::string target = thread.peer == "b" ? "c" : "b";
        const Outcome moved = run_ppdsm({"migrate", thread.id, "--to", target});
        EXPECT_EQ(moved.exit_code, 0) << moved.err;
    }
    expect_answer(plain, exec->wait(kDeadline));
}

/// What a checkpoint says of the calls made must hold where none has been made since the last
/// return.
TEST_F(MeshThreads, MoveAgainWithoutHavingAskedForAnything) {
    start_mesh();
    Arguments options = often();
    options.insert(options.end(), {"--on", "b"});
    const auto exec = start_exec(options, behave("compute"), directory("work"));
    ASSERT_TRUE(wait_for_threads(2));
    for (const char* target : {"c", "a", "b"}) {
        const std::uint64_t before = threads()["job/2"].generation;
        const Outcome moved = run_ppdsm({"migrate", "job/2", "--to", target});
        ASSERT_EQ(moved.exit_code, 0) << moved.err;
        ASSERT_TRUE(wait_until([&] { return threads()["job/2"].generation > before + 2; }));
    }
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.out, "right\n") << outcome.err;
}

TEST_F(MeshThreads, TellWhatBecameOfThoseThatDidNotReturn) {
    start_mesh();
    const Outcome outcome = run_exec({"--on", "b"}, behave("failures"), directory("work"));
    EXPECT_EQ(outcome.out,
              "out of range: too far\ncrashed: exit code 3 at b\ncrashed: killed by SIGSEGV at b\n")
        << outcome.err;
}

TEST_F(MeshThreads, PassMessagesOfManyMebibytes) {
    start_mesh();
    const Outcome outcome = run_exec({"--on", "c"}, behave("messages"), directory("work"));
    const std::uint64_t wanted = 1 + 1000ULL * 1001 / 2 + 3'000'000ULL * 3'000'001 / 2;
    EXPECT_EQ(outcome.out, std::to_string(wanted) + "\n") << outcome.err;
}

TEST_F(MeshThreads, PrintWholeLinesWhereTheirProgramPrints) {
    start_mesh();
    const Outcome outcome = run_exec({}, behave("print"), directory("work"));
    std::multiset<std::string> lines;
    std::istringstream text(outcome.out);
    for (std::string line; std::getline(text, line);) lines.insert(line);
    std::multiset<std::string> wanted = {"main"};
    for (int thread = 0; thread < 3; ++thread) {
        for (int i = 0; i < 500; ++i) {
            wanted.insert("line " + std::to_string(i) + " of " + std::to_string(thread));
        }
    }
    EXPECT_EQ(lines, wanted) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "without an end")) << outcome.err;
}

TEST_F(MeshThreads, AreToldOfADeadlock) {
    start_mesh();
    const Outcome outcome = run_exec({}, behave("deadlock"), directory("work"));
    EXPECT_TRUE(contains(outcome.out, "(the waiting one) waits for a message of type int"))
        << outcome.out << outcome.err;
}

TEST_F(MeshThreads, GoOnWhenTheirDeployersDaemonIsKilledAndComesBack) {
    const Outcome plain = run_plain(long_life(), directory("plain"));
    start_mesh();
    const auto exec = start_exec(often(), long_life(), directory("work"));
    ASSERT_TRUE(wait_for_threads(5));
    const std::string vc = vc_called("job");
    kill_peer("a");
    start_peer("a");
    const Outcome outcome = outcome_of(*exec, vc);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(run_ppdsm({"logs", vc}).out, plain.out);
}

TEST_F(MeshThreads, BeginWhenTheirDeployersDaemonDiesOverThem) {
    const Arguments argv = kernel({"pi", "--size", "20000000", "--workers", "3"});
    const Outcome plain = run_plain(argv, directory("plain"));
    // While the first virtual thread is made ready: the program's own VC was the first.
    start_peer("a", "deployment-made:2");
    start_peer("b");
    ASSERT_EQ(ask("b", {"join", invite("a")}).exit_code, 0);
    wait_for_mesh(2);
    become_user_of("a");
    const auto exec = start_exec({"--name", "job"}, argv, directory("work"));
    ASSERT_TRUE(wait_until([&] { return peers_.at("a").daemon->has_ended(); }));
    peers_.at("a").daemon.reset();
    start_peer("a");
    const std::string vc = vc_called("job");
    const Outcome outcome = outcome_of(*exec, vc);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(run_ppdsm({"logs", vc}).out, plain.out);
}

TEST_F(MeshThreads, EndWithTheirProgram) {
    start_mesh();
    const auto exec = start_exec(often(), long_life(), directory("work"));
    ASSERT_TRUE(wait_for_threads(5));
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 137);
    EXPECT_TRUE(wait_until([&] { return threads().empty(); }));
}

}  // namespace
}  // namespace ppdsm::process_test
