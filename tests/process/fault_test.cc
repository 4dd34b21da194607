// Goal: killed at its worst moments, the executor leaves a state from which the next one goes on,
// with the same output and files as a run that nobody disturbed; so do CRIU, the warden and its
// root server, within one run. Method: PPDSM_FAULT kills the executor at named places; CRIU and the
// warden are caught at work and killed from outside.
#include <signal.h>

#include <tuple>

#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

using Parameter = std::tuple<std::string, std::string>;  // --files, PPDSM_FAULT

class Faults : public ProcessTest {
protected:
    fs::path events() const { return world() / "events.jsonl"; }
    Arguments options(const Arguments& more = {}) const {
        Arguments all = {"--checkpoint-every", "250ms", "--name", "job", "--events", events()};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    bool wait_for_events(std::string_view kind, std::size_t count, ChildProcess& exec) const {
        return wait_until(
            [&] { return count_events(events(), kind) >= count || exec.has_ended(); });
    }
    void prepare(const fs::path& directory) const {
        write_text(directory / "given.txt", "was here before\n");
    }
    /// `resume` until it is not killed any more; the output is added to `outcome`.
    void resume_to_the_end(Outcome& outcome) {
        for (int tries = 0; outcome.exit_code == 128 + SIGKILL && tries < 3; ++tries) {
            EXPECT_TRUE(wait_until([&] { return own_processes().empty(); }));
            const Outcome next = run_ppdsm({"resume", "job"});
            outcome.exit_code = next.exit_code;
            outcome.out += next.out, outcome.err += next.err;
        }
    }
    void expect_same(const Outcome& plain, Outcome outcome) {
        outcome.out_bytes = plain.out_bytes, outcome.out_hash = plain.out_hash;
        EXPECT_TRUE(none(outcome_difference(plain, outcome)));
        EXPECT_TRUE(
            none(tree_difference(read_tree(world() / "plain"), read_tree(world() / "work"))));
    }
    /// The host's pid of a process of this test that is called `word`, or whose command line holds
    /// it; 0: none.
    pid_t find_process(const std::string& word) const {
        const std::vector<pid_t> pids = own_processes();
        for (const pid_t pid : pids) {
            if (read_whole("/proc/" + std::to_string(pid) + "/comm") == word + "\n") return pid;
        }
        for (const pid_t pid : pids) {
            const std::string command = read_whole("/proc/" + std::to_string(pid) + "/cmdline");
            if (command.find(word) != std::string::npos) return pid;
        }
        return 0;
    }
    /// Waits until CRIU works, then kills the process named by `victim`. False: the run ended.
    bool kill_while_criu_works(ChildProcess& exec, const std::string& victim) {
        bool killed = false;
        wait_until([&] {
            if (find_process("swrk") == 0) return exec.has_ended();
            const pid_t pid = find_process(victim);
            killed = pid > 0 && kill(pid, SIGKILL) == 0;
            return killed;
        });
        return killed;
    }
};

class AtAPlace : public Faults, public testing::WithParamInterface<Parameter> {};

TEST_P(AtAPlace, TheNextExecutorGoesOn) {
    const auto& [files, place] = GetParam();
    const Arguments argv = {program("file_writes"), "3"};
    prepare(directory("plain"));
    const Outcome plain = run_plain(argv, directory("plain"));
    const fs::path work = directory("work");
    prepare(work);
    environment()["PPDSM_FAULT"] = place;
    Outcome outcome = run_exec(options({"--files", files}), argv, work);
    environment().erase("PPDSM_FAULT");
    EXPECT_EQ(outcome.exit_code, 128 + SIGKILL) << place << " was not reached: " << outcome.err;
    resume_to_the_end(outcome);
    expect_same(plain, outcome);
}

std::string parameter_name(const testing::TestParamInfo<Parameter>& info) {
    std::string name = std::get<0>(info.param) + "_" + std::get<1>(info.param);
    for (char& c : name) {
        if (c == ':' || c == '-') c = '_';
    }
    return name;
}

INSTANTIATE_TEST_SUITE_P(
    Faults, AtAPlace,
    testing::Combine(testing::Values("end"),
                     testing::Values("precopy", "dump", "dump:2", "frozen", "frozen:2", "store:2",
                                     "flushed", "flushed:2", "before-commit", "before-commit:2",
                                     "committed", "committed:2", "dropped", "dropped:2",
                                     "before-end", "ended", "applied")),
    parameter_name);
INSTANTIATE_TEST_SUITE_P(
    FaultsWithFilesAtCommits, AtAPlace,
    testing::Combine(testing::Values("commit"),
                     testing::Values("committed", "committed:3", "files-staged", "files-staged:3",
                                     "files-written", "files-written:3", "ended", "applied")),
    parameter_name);

class WhileComingBack : public Faults, public testing::WithParamInterface<std::string> {};

TEST_P(WhileComingBack, TheOneAfterGoesOn) {
    const Arguments argv = {program("file_writes"), "3"};
    prepare(directory("plain"));
    const Outcome plain = run_plain(argv, directory("plain"));
    const fs::path work = directory("work");
    prepare(work);
    environment()["PPDSM_FAULT"] = "frozen:2";
    Outcome outcome = run_exec(options({"--files", "commit"}), argv, work);
    ASSERT_EQ(outcome.exit_code, 128 + SIGKILL);
    environment()["PPDSM_FAULT"] = GetParam();
    ASSERT_TRUE(wait_until([&] { return own_processes().empty(); }));
    EXPECT_EQ(run_ppdsm({"resume", "job"}).exit_code, 128 + SIGKILL) << "it was not reached";
    environment().erase("PPDSM_FAULT");
    resume_to_the_end(outcome);
    expect_same(plain, outcome);
}

INSTANTIATE_TEST_SUITE_P(Faults, WhileComingBack,
                         testing::Values("files-staged", "files-written", "restore",
                                         "restore-images"),
                         [](const auto& parameter) {
                             std::string name = parameter.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

class DuringADump : public Faults, public testing::WithParamInterface<const char*> {};
class DuringARestore : public Faults, public testing::WithParamInterface<const char*> {};

TEST_P(DuringADump, ADeathIsRecovered) {
    const Arguments argv = {program("large_memory"), "3", "96"};
    const Outcome plain = run_plain(argv, directory("plain"));
    const auto exec = start_exec(options(), argv, directory("work"));
    std::size_t kills = 0;
    for (; kills < 3; ++kills) {
        if (!wait_for_events("restored", kills, *exec)) break;
        if (!kill_while_criu_works(*exec, GetParam())) break;
    }
    EXPECT_GE(kills, 1U);
    expect_same(plain, exec->wait(kDeadline));
}

TEST_P(DuringARestore, ADeathIsRecovered) {
    const Arguments argv = {program("large_memory"), "3", "96"};
    const Outcome plain = run_plain(argv, directory("plain"));
    const auto exec = start_exec(options(), argv, directory("work"));
    ASSERT_TRUE(wait_for_events("checkpoint_committed", 1, *exec));
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    ASSERT_EQ(kill(vc->init_pid, SIGKILL), 0);
    ASSERT_TRUE(wait_for_events("died", 1, *exec));
    EXPECT_TRUE(kill_while_criu_works(*exec, GetParam()));
    expect_same(plain, exec->wait(kDeadline));
    EXPECT_GE(count_events(events(), "restored"), 1U);
}

std::string victim_name(const testing::TestParamInfo<const char*>& info) {
    const std::string victim = info.param;
    if (victim == "swrk") return "Criu";
    if (victim == "ppdsm-warden") return "Warden";
    if (victim == "ppdsm-root") return "RootServer";
    return victim == "ppdsm-init" ? "Init" : "Root";
}
INSTANTIATE_TEST_SUITE_P(Faults, DuringADump,
                         testing::Values("swrk", "ppdsm-warden", "ppdsm-root", "ppdsm-init",
                                         "large_memory"),
                         victim_name);
INSTANTIATE_TEST_SUITE_P(Faults, DuringARestore,
                         testing::Values("swrk", "ppdsm-warden", "ppdsm-root"), victim_name);

// The program asks the root all the time and tells every answer: one that came from a dying server
// would show.
TEST_F(Faults, ADeathOfTheRootsServerIsRecovered) {
    const Arguments argv = {
        "sh", "-c",
        "i=0; while [ $i -lt 3000 ]; do cat /none.$i; i=$((i+1)); echo $i; done 2>&1; exit 7"};
    const Outcome plain = run_plain(argv, directory("plain"));
    const auto exec = start_exec(options(), argv, directory("work"));
    Rng rng;
    std::size_t kills = 0;
    for (; kills < 3 && wait_for_events("restored", kills, *exec) &&
           wait_for_events("checkpoint_committed", 2 * kills + 1, *exec) && !exec->has_ended();
         ++kills) {
        wait_until([&] { return exec->has_ended(); }, Seconds(0.3 * rng.fraction()));
        const pid_t server = find_process("ppdsm-root");
        if (server == 0 || kill(server, SIGKILL) != 0) break;
    }
    EXPECT_GE(kills, 1U);
    expect_same(plain, exec->wait(kDeadline));
    EXPECT_GE(count_events(events(), "restored"), 1U);
}

}  // namespace
}  // namespace ppdsm::process_test
