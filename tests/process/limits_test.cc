// Goal: where recovery ends. What cannot be gone on with is said by name, and never a second answer
// given beside the first. Method: generations that are damaged on the disk, programs that die again
// and again or do not repeat themselves, and runs whose policy is not to be brought back.
#include <signal.h>

#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

class Limits : public CheckpointedRunTest {
protected:
    std::size_t commits() const { return count_events(events(), "checkpoint_committed"); }
    /// Runs until two generations are there, then kills the executor. The VC's directory.
    fs::path interrupted_run(const Arguments& argv, Outcome& part) {
        const auto exec = start_exec(options(), argv, directory("work"));
        EXPECT_TRUE(wait_until([&] { return commits() >= 3 || exec->has_ended(); }));
        const std::optional<VcStatus> vc = running_vc("job", 2);
        if (!vc || kill(vc->executor_pid, SIGKILL) != 0) {
            ADD_FAILURE() << "it could not be interrupted";
            return {};
        }
        part = exec->wait(kDeadline);
        EXPECT_TRUE(wait_until([&] { return own_processes().empty(); }));
        return home() / "vcs" / vc->id;
    }
    static fs::path newest_file(const fs::path& directory) {
        fs::path newest;
        for (const auto& entry : fs::directory_iterator(directory)) {
            const auto longer = [](const fs::path& a, const fs::path& b) {
                const std::string x = a.filename(), y = b.filename();
                return x.size() != y.size() ? x.size() > y.size() : x > y;
            };
            if (newest.empty() || longer(entry.path(), newest)) newest = entry.path();
        }
        return newest;
    }
    static void flip_byte(const fs::path& path, std::size_t at) {
        std::string text = read_whole(path);
        ASSERT_LT(at, text.size()) << path;
        text[at] = static_cast<char>(text[at] ^ 0x20);
        write_text(path, text, 0600);
    }
    /// `damage` hits the newest generation: it is named, the one before used, the output is whole.
    void expect_previous_generation(const std::function<void(const fs::path&)>& damage) {
        const Arguments argv = {program("interleave"), "4"};
        const Outcome plain = run_plain(argv, directory("plain"));
        Outcome part;
        const fs::path vc = interrupted_run(argv, part);
        if (HasFailure()) return;
        damage(vc);
        const Outcome resumed = run_ppdsm({"resume", "job"});
        EXPECT_EQ(resumed.exit_code, plain.exit_code) << resumed.err;
        EXPECT_TRUE(contains(resumed.err, "generation ") &&
                    contains(resumed.err, "cannot be restored"))
            << resumed.err;
        EXPECT_TRUE(none(text_difference(plain.out, part.out + resumed.out))) << resumed.err;
    }
};

TEST_F(Limits, RmTakesTheCgroupsOfAKilledExecutorAlong) {
    if (geteuid() != 0) GTEST_SKIP() << "limits need root";
    Arguments limited = options();
    limited.insert(limited.end(), {"--memory", "256M"});
    const auto exec = start_exec(limited, {program("interleave"), "30"}, directory("work"));
    ASSERT_TRUE(wait_until([&] { return commits() >= 1 || exec->has_ended(); }));
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc && kill(vc->executor_pid, SIGKILL) == 0);
    exec->wait(kDeadline);
    ASSERT_TRUE(wait_until([&] { return own_processes().empty(); }));
    const std::string noted = read_whole(home() / "vcs" / vc->id / "limits");
    const fs::path group = noted.substr(0, noted.find('\n'));
    ASSERT_TRUE(fs::is_directory(group)) << noted;
    // While the killed processes are still ending, it says so and removes nothing.
    Outcome removed;
    EXPECT_TRUE(wait_until([&] { return (removed = run_ppdsm({"rm", "job"})).exit_code == 0; }))
        << removed.err;
    EXPECT_FALSE(fs::exists(group));
    EXPECT_FALSE(fs::exists(home() / "vcs" / vc->id));
}

TEST_F(Limits, RmEndedLeavesWhatCanBeGoneOnWith) {
    Outcome part;
    const fs::path interrupted = interrupted_run({program("interleave"), "4"}, part);
    ASSERT_FALSE(HasFailure());
    EXPECT_EQ(run_exec({"--name", "done"}, {"true"}, directory("work")).exit_code, 0);
    EXPECT_EQ(run_ppdsm({"rm", "--ended"}).exit_code, 0);
    EXPECT_NE(run_ppdsm({"logs", "done"}).exit_code, 0);
    EXPECT_TRUE(fs::exists(interrupted));
    EXPECT_EQ(run_ppdsm({"resume", "job"}).exit_code, 4) << "as interleave ends";
}

TEST_F(Limits, AProgramKilledBeforeItsCheckpointIsNotKeptDead) {
    const Arguments argv = {program("interleave"), "4"};
    const Outcome plain = run_plain(argv, directory("plain"));
    const auto exec =
        start_exec({"--checkpoint-every", "1h", "--name", "job"}, argv, directory("work"));
    ASSERT_TRUE(wait_until([&] { return running_vc("job", 0) || exec->has_ended(); }));
    EXPECT_EQ(run_ppdsm({"checkpoint", "create", "job"}).exit_code, 0);
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    // Init stands still, so that nobody waits for the dead program before CRIU sees it.
    ASSERT_EQ(kill(vc->init_pid, SIGSTOP), 0);
    ASSERT_EQ(kill(vc->root_pid, SIGKILL), 0);
    const Outcome refused = run_ppdsm({"checkpoint", "create", "job"});
    EXPECT_NE(refused.exit_code, 0);
    EXPECT_TRUE(contains(refused.err, "the program has just ended")) << refused.err;
    ASSERT_EQ(kill(vc->init_pid, SIGCONT), 0);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.exit_code, plain.exit_code) << outcome.err;
    EXPECT_TRUE(none(text_difference(plain.out, outcome.out))) << outcome.err;
}

TEST_F(Limits, ADamagedManifestIsNamedAndTheGenerationBeforeUsed) {
    expect_previous_generation([](const fs::path& vc) {
        const fs::path manifest = newest_file(vc / "manifests");
        flip_byte(manifest, fs::file_size(manifest) / 2);
    });
}

TEST_F(Limits, ATruncatedManifestIsNamedAndTheGenerationBeforeUsed) {
    expect_previous_generation([](const fs::path& vc) {
        const fs::path manifest = newest_file(vc / "manifests");
        fs::resize_file(manifest, fs::file_size(manifest) / 2);
    });
}

TEST_F(Limits, AMissingManifestIsNamedAndTheGenerationBeforeUsed) {
    expect_previous_generation(
        [](const fs::path& vc) { fs::remove(newest_file(vc / "manifests")); });
}

TEST_F(Limits, ADamagedChunkIsNamedAndTheGenerationBeforeUsed) {
    expect_previous_generation([](const fs::path& vc) {
        const fs::path pack = newest_file(vc / "chunks");
        flip_byte(pack, fs::file_size(pack) / 3);
    });
}

TEST_F(Limits, ATruncatedPackIsNamedAndTheGenerationBeforeUsed) {
    expect_previous_generation([](const fs::path& vc) {
        const fs::path pack = newest_file(vc / "chunks");
        fs::resize_file(pack, fs::file_size(pack) / 2);
    });
}

TEST_F(Limits, StrayFilesInTheStoreDoNoHarm) {
    const Arguments argv = {program("pipes"), "4"};
    const Outcome plain = run_plain(argv, directory("plain"));
    Outcome part;
    const fs::path vc = interrupted_run(argv, part);
    if (HasFailure()) return;
    for (const char* place : {"chunks", "manifests", ".", "..", "run"}) {
        write_text(vc / place / "stray", "not ours\n");
        fs::create_directory(vc / place / "stray directory");
    }
    const Outcome resumed = run_ppdsm({"resume", "job"});
    EXPECT_EQ(resumed.exit_code, plain.exit_code) << resumed.err;
    EXPECT_TRUE(none(text_difference(plain.out, part.out + resumed.out)));
}

TEST_F(Limits, WhenAllGenerationsAreDamagedThatIsSaidAndNothingRuns) {
    Outcome part;
    const fs::path vc = interrupted_run({program("interleave"), "4"}, part);
    if (HasFailure()) return;
    for (const auto& entry : fs::directory_iterator(vc / "manifests")) {
        fs::resize_file(entry.path(), 10);
    }
    const Outcome resumed = run_ppdsm({"resume", "job"});
    EXPECT_EQ(resumed.exit_code, 125);
    EXPECT_EQ(resumed.out, "");
    EXPECT_TRUE(contains(resumed.err, "cannot be restored")) << resumed.err;
}

TEST_F(Limits, OutputThatIsNotRepeatedIsANamedError) {
    Outcome part;
    const fs::path vc = interrupted_run(
        {"sh", "-c", "while :; do cat /proc/sys/kernel/random/uuid; sleep 0.02; done"}, part);
    if (HasFailure()) return;
    fs::remove(newest_file(vc / "manifests"));
    const Outcome resumed = run_ppdsm({"resume", "job"});
    EXPECT_EQ(resumed.exit_code, 125);
    EXPECT_TRUE(contains(resumed.err, "did not write the same again")) << resumed.err;
    EXPECT_TRUE(none(text_difference(run_ppdsm({"logs", "job"}).out, part.out + resumed.out)));
}

TEST_F(Limits, ASecondExecutorIsRefused) {
    const auto exec = start_exec(options(), {program("static_counter"), "3"}, directory("work"));
    ASSERT_TRUE(running_vc("job"));
    const Outcome second = run_ppdsm({"resume", "job"});
    EXPECT_EQ(second.exit_code, 125);
    EXPECT_TRUE(contains(second.err, "another executor")) << second.err;
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
}

TEST_F(Limits, AProgramThatKillsItselfIsNotRestartedForEver) {
    const Outcome outcome = run_exec(options(), {"sh", "-c", "kill -9 $$"}, directory("work"));
    EXPECT_EQ(outcome.exit_code, 125);
    EXPECT_TRUE(contains(outcome.err, "died again")) << outcome.err;
}

TEST_F(Limits, AGenerationThatDiesAgainAndAgainIsLeftForTheOneBefore) {
    const Outcome outcome = run_exec(options({"--keep", "2"}),
                                     {"sh", "-c", "sleep 1.2; kill -9 $$"}, directory("work"));
    EXPECT_EQ(outcome.exit_code, 125);
    EXPECT_TRUE(contains(outcome.err, "died again")) << outcome.err;
    std::map<std::uint64_t, int> restores;
    for (const Event& event : read_events(events())) {
        if (event.kind == "restored")
            ++restores[event.fields.value("generation", std::uint64_t{0})];
    }
    EXPECT_GE(restores.size(), 2U);
    for (const auto& [generation, count] : restores) EXPECT_LE(count, 3) << generation;
}

TEST_F(Limits, NeverToRecoverMeansNever) {
    const fs::path work = directory("work");
    const auto exec =
        start_exec(options({"--recover", "never"}), {program("file_writes"), "20"}, work);
    ASSERT_TRUE(wait_until([&] { return commits() >= 1 || exec->has_ended(); }));
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    ASSERT_EQ(kill(vc->root_pid, SIGKILL), 0);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.exit_code, 128 + SIGKILL);
    EXPECT_TRUE(contains(outcome.err, "--recover never")) << outcome.err;
    EXPECT_EQ(count_events(events(), "restored"), 0U);
    EXPECT_TRUE(none(tree_difference({}, read_tree(work))));
}

TEST_F(Limits, WhatWasShownUnprotectedIsNotBegunAgain) {
    const auto exec = start_exec({"--checkpoint-every", "off", "--name", "job"},
                                 {program("static_counter"), "50"}, directory("work"));
    ASSERT_TRUE(wait_until([&] { return contains(exec->out_so_far(), "\n"); }));
    const std::optional<VcStatus> vc = running_vc("job");
    ASSERT_TRUE(vc);
    ASSERT_EQ(kill(vc->executor_pid, SIGKILL), 0);
    exec->wait(kDeadline);
    EXPECT_TRUE(wait_until([&] { return own_processes().empty(); }));
    const Outcome resumed = run_ppdsm({"resume", "job"});
    EXPECT_EQ(resumed.exit_code, 125);
    EXPECT_EQ(resumed.out, "");
    EXPECT_TRUE(contains(resumed.err, "start the program again")) << resumed.err;
}

TEST_F(Limits, KillEndsARunAlsoDuringItsCheckpoints) {
    for (int i = 0; i < 3; ++i) {
        const std::string name = "job" + std::to_string(i);
        const auto exec = start_exec({"--checkpoint-every", "1ms", "--name", name},
                                     {program("large_memory"), "50", "32"}, directory("work"));
        ASSERT_TRUE(running_vc(name, 1));
        EXPECT_EQ(run_ppdsm({"kill", "-s", "KILL", name}).exit_code, 0);
        const Outcome outcome = exec->wait(kDeadline);
        EXPECT_EQ(outcome.exit_code, 128 + SIGKILL) << outcome.err;
        EXPECT_TRUE(contains(outcome.err, "ppdsm kill")) << outcome.err;
    }
}

TEST_F(Limits, TheTimeoutEndsARunDuringItsCheckpoints) {
    const Outcome outcome = run_exec({"--checkpoint-every", "1ms", "--timeout", "1s"},
                                     {program("large_memory"), "50", "32"}, directory("work"));
    EXPECT_EQ(outcome.exit_code, 128 + SIGKILL) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "--timeout")) << outcome.err;
}

TEST_F(Limits, AProgramThatEndsDuringACheckpointHasEnded) {
    for (int i = 0; i < 10; ++i) {
        const Outcome outcome = run_exec({"--checkpoint-every", "1ms"},
                                         {program("static_counter"), "0.2"}, directory("work"));
        EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
        EXPECT_EQ(outcome.err, "");
    }
}

TEST_F(Limits, ASignalIsGivenAgainAfterARollBack) {
    const auto exec = start_exec(options(), {program("catch_signals"), "2"}, directory("work"));
    ASSERT_TRUE(wait_until([&] { return commits() >= 1 || exec->has_ended(); }));
    exec->send_signal(SIGUSR1);
    std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    ASSERT_EQ(kill(vc->root_pid, SIGKILL), 0);
    ASSERT_TRUE(
        wait_until([&] { return count_events(events(), "restored") >= 1 || exec->has_ended(); }));
    exec->send_signal(SIGTERM);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.exit_code, 12) << outcome.err;
    EXPECT_EQ(outcome.out, "ready\ncaught USR1\ncaught TERM\n");
}

TEST_F(Limits, ATerminalOutlivesItsProgramsDeath) { expect_terminal_outlives_a_death(); }

TEST_F(Limits, InputFromAFileGoesOnWhereItStopped) {
    const fs::path input = world() / "input";
    write_prose(input, 4'000'001);
    const std::string from_file = " 3 < " + input.string();
    const Outcome plain =
        run_plain({"sh", "-c", program("stdin_copy") + from_file}, directory("plain"));
    const auto exec =
        start({"sh", "-c",
               "exec " + ppdsm() + " exec --checkpoint-every 300ms --name job --events " +
                   events().string() + " " + program("stdin_copy") + from_file},
              directory("work"));
    ASSERT_TRUE(wait_until([&] { return commits() >= 1 || exec->has_ended(); }));
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    ASSERT_EQ(kill(vc->executor_pid, SIGKILL), 0);
    const Outcome part = exec->wait(kDeadline);
    ASSERT_TRUE(wait_until([&] { return own_processes().empty(); }));
    const Outcome without = run_ppdsm({"resume", "job"});
    EXPECT_EQ(without.exit_code, 125) << "it was given no input, and another answer";
    EXPECT_TRUE(contains(without.err, "stdin")) << without.err;
    const Outcome resumed =
        start({"sh", "-c", ppdsm() + " resume job < " + input.string()}, world())->wait(kDeadline);
    EXPECT_EQ(resumed.exit_code, plain.exit_code) << resumed.err;
    EXPECT_TRUE(none(text_difference(plain.out, part.out + resumed.out))) << resumed.err;
}

TEST_F(Limits, AnEndlessWriterEndsWithItsReader) {
    for (const char* output : {"committed", "live"}) {
        const std::string command = ppdsm() + " exec --output " + output + " yes | head -n 1";
        const Outcome outcome = start({"sh", "-c", command}, directory("work"))->wait(kDeadline);
        EXPECT_EQ(outcome.out, "y\n") << outcome.err;
        EXPECT_TRUE(wait_until([&] { return own_processes().empty(); }));
    }
}

}  // namespace
}  // namespace ppdsm::process_test
