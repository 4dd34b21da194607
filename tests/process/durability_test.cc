// Goal: what a run leaves outside (files, output, processes) is all or nothing, whenever it dies.
// Method: runs that are watched, killed, timed out or starved at chosen points; what the caller
// finds afterwards is compared with what a plain run leaves.
#include <signal.h>
#include <sys/mount.h>

#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

class Durability : public CheckpointedRunTest {
protected:
    bool wait_for_commits(std::size_t count) const {
        return wait_until([&] { return count_events(events(), "checkpoint_committed") >= count; });
    }
    /// SIGKILL to the executor, and the wait until nothing of the run is left running.
    void kill_executor(ChildProcess& exec, pid_t executor_pid) {
        ASSERT_GT(executor_pid, 0);
        ASSERT_EQ(kill(executor_pid, SIGKILL), 0);
        exec.wait(kDeadline);
        EXPECT_TRUE(wait_until([&] { return own_processes().empty(); }))
            << "the executor is dead but its processes run on";
    }
};

TEST_F(Durability, FilesArriveOnlyAtTheEnd) {
    const fs::path work = directory("work"), plain = directory("plain");
    write_text(work / "given.txt", "as it was\n");
    write_text(plain / "given.txt", "as it was\n");
    const Tree before = read_tree(work);
    const auto exec = start_exec(options({"--files", "end"}), {program("file_writes"), "3"}, work);
    ASSERT_TRUE(wait_for_commits(2));
    const Tree during = read_tree(work);
    if (!exec->has_ended()) {
        EXPECT_TRUE(none(tree_difference(before, during)));
    }
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
    run_plain({program("file_writes"), "3"}, plain);
    EXPECT_TRUE(none(tree_difference(read_tree(plain), read_tree(work))));
}

TEST_F(Durability, FilesArriveWithEachCommitWhenAsked) {
    const fs::path work = directory("work"), plain = directory("plain");
    const auto exec =
        start_exec(options({"--files", "commit"}), {program("file_writes"), "4"}, work);
    EXPECT_TRUE(wait_until([&] { return exec->has_ended() || fs::exists(work / "append.log"); }));
    EXPECT_FALSE(exec->has_ended()) << "no file came before the end";
    run_plain({program("file_writes"), "4"}, plain);
    // Whatever is there is whole: each version of the log is a beginning of the last.
    const std::string final_log = read_whole(plain / "append.log");
    while (!exec->has_ended() && !HasFailure()) {
        const std::string log = read_whole(work / "append.log");
        EXPECT_TRUE(final_log.starts_with(log) && log.ends_with('\n')) << log;
        wait_until([&] { return exec->has_ended(); }, Seconds(0.05));
    }
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
    EXPECT_TRUE(none(tree_difference(read_tree(plain), read_tree(work))));
}

TEST_F(Durability, AProgramThatFailsLeavesTheFilesOfAPlainRun) {
    const Arguments argv = {"sh", "-c", "echo whole > result; mkdir sub; exit 3"};
    const Outcome plain = run_plain(argv, directory("plain"));
    const Outcome outcome = run_exec({}, argv, directory("work"));
    EXPECT_TRUE(none(outcome_difference(plain, outcome)));
    EXPECT_TRUE(none(tree_difference(read_tree(world() / "plain"), read_tree(world() / "work"))));
}

TEST_F(Durability, AKilledRunLeavesNothingHalfWrittenAndNothingRunning) {
    const fs::path work = directory("work");
    write_text(work / "given.txt", "as it was\n");
    const Tree before = read_tree(work);
    const auto exec = start_exec(options(), {program("file_writes"), "20"}, work);
    ASSERT_TRUE(wait_for_commits(1));
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    kill_executor(*exec, vc->executor_pid);
    EXPECT_TRUE(none(tree_difference(before, read_tree(work))));
}

TEST_F(Durability, AProcessTreeDiesWithItsExecutorBeforeTheFirstCheckpointToo) {
    const auto exec =
        start_exec({"--checkpoint-every", "off", "--name", "job"},
                   {"sh", "-c", "sleep 500 & setsid sleep 500 & sleep 500"}, directory("work"));
    const std::optional<VcStatus> vc = running_vc("job");
    ASSERT_TRUE(vc);
    EXPECT_TRUE(wait_until([&] {
        const std::optional<VcStatus> now = find_vc("job");
        return HasFailure() || (now && now->pids.size() >= 4);
    }));
    kill_executor(*exec, vc->executor_pid);
}

TEST_F(Durability, DeathWithoutACheckpointIsNamedAndLeavesNothing) {
    const fs::path work = directory("work");
    const auto exec = start_exec({"--checkpoint-every", "off", "--name", "job"},
                                 {program("file_writes"), "20"}, work);
    const std::optional<VcStatus> vc = running_vc("job");
    ASSERT_TRUE(vc);
    ASSERT_EQ(kill(vc->root_pid, SIGKILL), 0);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_TRUE(contains(outcome.err, "ppdsm:")) << "it died without a word";
    EXPECT_TRUE(none(tree_difference({}, read_tree(work))));
}

TEST_F(Durability, ATimeoutLeavesNothingHalfWritten) {
    const fs::path work = directory("work");
    const Outcome outcome = run_exec({"--timeout", "1s"}, {program("file_writes"), "50"}, work);
    EXPECT_GT(outcome.exit_code, 0);
    EXPECT_TRUE(none(tree_difference({}, read_tree(work))));
}

TEST_F(Durability, DetachedRunsAreWaitedForAndTheirOutputKept) {
    const fs::path work = directory("work");
    const Outcome plain = run_plain({program("interleave"), "1.5"}, directory("plain"));
    const Outcome started = run_exec({"--detach", "--name", "job", "--checkpoint-every", "300ms"},
                                     {program("interleave"), "1.5"}, work);
    EXPECT_EQ(started.exit_code, 0) << started.err;
    const std::string id = started.out.substr(0, started.out.find_first_of(" \n"));
    EXPECT_NE(id, "") << "exec --detach names the VC on standard output";
    const Outcome waited = run_ppdsm({"wait", id});
    EXPECT_EQ(waited.exit_code, plain.exit_code) << waited.err;
    const Outcome logs = run_ppdsm({"logs", id});
    EXPECT_EQ(logs.exit_code, 0) << logs.err;
    EXPECT_TRUE(none(text_difference(plain.out, logs.out)));
}

TEST_F(Durability, TheLogHoldsEachByteOnceAfterAResume) {
    const fs::path work = directory("work");
    const Arguments argv = {program("pipes"), "4"};
    const Outcome plain = run_plain(argv, directory("plain"));
    const auto exec = start_exec(options(), argv, work);
    const std::optional<VcStatus> vc = running_vc("job", 2);
    ASSERT_TRUE(vc);
    kill_executor(*exec, vc->executor_pid);
    const Outcome resumed = run_ppdsm({"resume", vc->id});
    EXPECT_EQ(resumed.exit_code, plain.exit_code) << resumed.err;
    EXPECT_TRUE(none(text_difference(plain.out, run_ppdsm({"logs", vc->id}).out)));
}

TEST_F(Durability, TheMonotonicClockGoesOnWhereItStood) {
    const auto exec = start_exec(options(), {program("monotonic"), "4", "8"}, directory("work"));
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    kill_executor(*exec, vc->executor_pid);
    wait_until([] { return false; }, Seconds(12));  // More than the program allows a step to be.
    const Outcome resumed = run_ppdsm({"resume", vc->id});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.out << resumed.err;
    EXPECT_TRUE(contains(resumed.out, "end faults 0")) << resumed.out;
}

TEST_F(Durability, ResumeNamesAnUnknownVc) {
    const Outcome outcome = run_ppdsm({"resume", "no-such-vc"});
    EXPECT_EQ(outcome.exit_code, 125);
    EXPECT_TRUE(contains(outcome.err, "no-such-vc")) << outcome.err;
}

TEST_F(Durability, WritesOutsideAreRefused) {
    const fs::path outside = directory("outside");
    const Outcome outcome =
        run_exec({}, {"sh", "-c", "echo x > " + (outside / "file").string() + " || exit 5"},
                 directory("work"));
    EXPECT_EQ(outcome.exit_code, 5);
    EXPECT_TRUE(fs::is_empty(outside));
}

TEST_F(Durability, ExposedDirectoriesAreSeenAndWrittenAsAsked) {
    const fs::path readable = directory("readable"), writable = directory("writable");
    write_text(readable / "file", "seen\n");
    const std::string script = "cat " + (readable / "file").string() + "; echo new > " +
                               (writable / "file").string() + "; echo no > " +
                               (readable / "file").string();
    const Outcome outcome =
        run_exec({"--expose", readable.string() + ":ro", "--expose", writable.string() + ":rw"},
                 {"sh", "-c", script}, directory("work"));
    EXPECT_EQ(outcome.out, "seen\n") << outcome.err;
    EXPECT_EQ(read_whole(writable / "file"), "new\n");
    EXPECT_EQ(read_whole(readable / "file"), "seen\n");
}

TEST_F(Durability, AFileChangedAtHomeMeanwhileIsKeptAndNamed) {
    const fs::path work = directory("work");
    write_text(work / "both", "before\n");
    const std::string counter = program("static_counter");
    const auto exec = start_exec(options({"--expose", fs::path(counter).parent_path().string()}),
                                 {"sh", "-c", "echo ours > both; " + counter + " 3"}, work);
    ASSERT_TRUE(wait_for_commits(1));
    write_text(work / "both", "theirs, meanwhile\n");
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(read_whole(work / "both"), "theirs, meanwhile\n");
    EXPECT_TRUE(contains(outcome.err, "both")) << outcome.err;
    int copies_of_ours = 0;
    for (const auto& entry : fs::directory_iterator(work)) {
        if (read_whole(entry.path()) == "ours\n") ++copies_of_ours;
    }
    EXPECT_EQ(copies_of_ours, 1) << "what the program wrote is put beside it";
}

TEST_F(Durability, AFullDiskCostsCheckpointsButNotTheRun) {
    const Arguments argv = {program("large_memory"), "2", "96"};
    const Outcome plain = run_plain(argv, directory("plain"));
    ASSERT_EQ(mount("ppdsm-test", home().c_str(), "tmpfs", 0, "size=24m"), 0)
        << "mount a small tmpfs on " << home();
    const Outcome outcome = run_exec(options(), argv, directory("work"));
    EXPECT_EQ(umount2(home().c_str(), MNT_DETACH), 0);
    EXPECT_TRUE(none(outcome_difference(plain, outcome)));
    EXPECT_TRUE(contains(outcome.err, "ppdsm:")) << "no warning of the full disk";
}

}  // namespace
}  // namespace ppdsm::process_test
