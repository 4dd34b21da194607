// Goal: `ppdsm exec` is the program, as its caller sees it: streams, exit code, signals, terminal,
// environment, files. Method: small programs beside their plain runs; one property a test.
#include <signal.h>

#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

class Exec : public ProcessTest {
protected:
    /// Runs plain and under exec in directories of the same content; they must not differ.
    void expect_like_plain(const Arguments& argv, const Input& input = {},
                           const Arguments& options = {}) {
        const fs::path plain_directory = directory("plain"), work = directory("work");
        const Outcome plain = run_plain(argv, plain_directory, input);
        const Outcome outcome = run_exec(options, argv, work, input);
        EXPECT_TRUE(none(outcome_difference(plain, outcome)));
        EXPECT_TRUE(none(tree_difference(read_tree(plain_directory), read_tree(work))));
    }
};

TEST_F(Exec, ReturnsTheExitCode) {
    for (const char* code : {"0", "3", "77", "255"}) {
        EXPECT_EQ(run_exec({}, {program("exit_with"), "code", code}, directory("work")).exit_code,
                  std::atoi(code));
    }
}

TEST_F(Exec, Returns128PlusTheSignal) {
    for (const int number : {SIGTERM, SIGUSR1, SIGABRT}) {
        const Arguments argv = {program("exit_with"), "signal", std::to_string(number)};
        EXPECT_EQ(run_exec({}, argv, directory("work")).exit_code, 128 + number);
    }
    EXPECT_EQ(run_exec({}, {program("segfault"), "0.1"}, directory("work")).exit_code,
              128 + SIGSEGV);
}

TEST_F(Exec, NamesAMissingProgramAndReturns127) {
    for (const std::string name : {"ppdsm-no-such-program", "./ppdsm-no-such-program"}) {
        const Outcome outcome = run_exec({}, {name}, directory("work"));
        EXPECT_EQ(outcome.exit_code, 127);
        EXPECT_EQ(outcome.out, "");
        EXPECT_TRUE(contains(outcome.err, "ppdsm-no-such-program")) << outcome.err;
    }
}

TEST_F(Exec, NamesWhatCannotBeExecutedAndReturns126) {
    const fs::path work = directory("work");
    write_text(work / "not-executable", "#!/bin/sh\necho never\n", 0644);
    fs::create_directory(work / "a-directory");
    for (const std::string name : {"not-executable", "a-directory"}) {
        const Outcome outcome = run_exec({}, {"./" + name}, work);
        EXPECT_EQ(outcome.exit_code, 126) << name;
        EXPECT_TRUE(contains(outcome.err, name)) << outcome.err;
    }
}

TEST_F(Exec, Returns125WhenItFailsItself) {
    const Outcome unknown = run_exec({"--no-such-option"}, {"/bin/true"}, directory("work"));
    EXPECT_EQ(unknown.exit_code, 125);
    EXPECT_TRUE(contains(unknown.err, "--no-such-option")) << unknown.err;

    write_text(world() / "a-file", "no directory");
    environment()["PPDSM_HOME"] = world() / "a-file";
    const Outcome homeless = run_exec({}, {"/bin/true"}, directory("work"));
    EXPECT_EQ(homeless.exit_code, 125);
    EXPECT_TRUE(contains(homeless.err, "a-file")) << homeless.err;
    environment()["PPDSM_HOME"] = home();  // For the leftovers' check.
}

TEST_F(Exec, PassesInputThrough) {
    std::string text;
    for (int i = 0; i < 20000; ++i) text += "line " + std::to_string(i * 7919) + "\n";
    expect_like_plain({program("stdin_copy"), "1"}, Input::text_then_end(text));
}

TEST_F(Exec, PassesEmptyInputThrough) {
    expect_like_plain({program("stdin_copy"), "0"}, Input::text_then_end(""));
    expect_like_plain({program("stdin_copy"), "0"});
}

TEST_F(Exec, PassesEarlyEndOfTheReaderThrough) {
    expect_like_plain({"head", "-n", "3"}, Input::text_then_end(std::string(1'000'000, '\n')));
}

TEST_F(Exec, AnswersWhileInputStaysOpen) {
    const auto exec =
        start_exec({"--output", "live"}, {"cat"}, directory("work"), Input::open_pipe());
    std::string expected;
    for (const char* line : {"first\n", "second\n", "third\n"}) {
        exec->write_input(line);
        expected += line;
        EXPECT_TRUE(wait_until([&] { return exec->out_so_far() == expected; })) << line;
    }
    exec->close_input();
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
}

TEST_F(Exec, KeepsTheStreamsApart) { expect_like_plain({program("interleave"), "0.5"}); }

TEST_F(Exec, PrintsNothingOfItsOwn) {
    const Outcome outcome = run_exec({}, {program("exit_with"), "code", "0"}, directory("work"));
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_EQ(outcome.out, "");
}

// PPDSM_LONG=1 makes it 4 GiB, which outlasts ctest's limit: start the test executable itself then.
TEST_F(Exec, PassesLargeOutputThrough) {
    const bool is_long = std::getenv("PPDSM_LONG") != nullptr;
    const std::uint64_t bytes = std::uint64_t{is_long ? 4096U : 64U} << 20;
    const Arguments argv = {program("large_output"), std::to_string(bytes)};
    const Seconds deadline = is_long ? Seconds(900) : kDeadline;
    const Outcome plain = start(argv, world())->wait(deadline);
    const Outcome outcome = start_exec({}, argv, directory("work"))->wait(deadline);
    EXPECT_EQ(plain.out_bytes, bytes);
    EXPECT_TRUE(none(outcome_difference(plain, outcome)));
}

TEST_F(Exec, RunsStaticProgramsAndScripts) {
    expect_like_plain({program("static_counter"), "0.2"});
    const fs::path work = directory("work");
    write_text(work / "script", "#!/bin/sh\necho \"$0 $1\" | tr a-z A-Z\nexit 9\n", 0755);
    const Outcome outcome = run_exec({}, {"./script", "with argument"}, work);
    EXPECT_EQ(outcome.exit_code, 9);
    EXPECT_EQ(outcome.out, "./SCRIPT WITH ARGUMENT\n");
}

TEST_F(Exec, KeepsIdentityAndArguments) {
    environment()["INHERITED"] = "from the caller";
    const fs::path work = directory("work");
    const Arguments argv = {program("identity"), "INHERITED", "PATH", "UNSET", "", "two words"};
    const Outcome plain = run_plain(argv, work);
    EXPECT_TRUE(none(outcome_difference(plain, run_exec({}, argv, work))));
}

TEST_F(Exec, SetsTheEnvironmentAsked) {
    environment()["CHANGED"] = "before";
    const Outcome outcome =
        run_exec({"--env", "ADDED=one=1", "--env", "CHANGED=after", "--env", "EMPTY="},
                 {program("identity"), "ADDED", "CHANGED", "EMPTY"}, directory("work"));
    EXPECT_TRUE(contains(outcome.out, "[ADDED] is one=1\n[CHANGED] is after\n[EMPTY] is \n"))
        << outcome.out << outcome.err;
}

TEST_F(Exec, RunsInARunDirectory) {
    if (geteuid() != 0) GTEST_SKIP() << "only root may write in /run";
    std::string pattern = "/run/ppdsm-test-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    const fs::path place = pattern;
    fs::create_directory(place / "shown");
    fs::create_directory(place / "work");
    write_text(place / "shown/input", "from run\n");
    const Outcome outcome =
        run_exec({"--expose", place / "shown"},
                 {"sh", "-c", "cat ../shown/input; echo made > output"}, place / "work");
    EXPECT_EQ(outcome.out, "from run\n") << outcome.err;
    EXPECT_EQ(read_whole(place / "work/output"), "made\n");
    fs::remove_all(place);
}

TEST_F(Exec, MayNotChangeTheKernelsSettings) {
    const char* script =
        "for f in kernel/core_pattern vm/drop_caches; do"
        " (: >>/proc/sys/$f) 2>/dev/null || echo refused; done";
    const Outcome outcome = run_exec({}, {"sh", "-c", script}, directory("work"));
    EXPECT_EQ(outcome.out, "refused\nrefused\n") << outcome.err;
}

TEST_F(Exec, EndsAtTheTimeout) {
    const fs::path work = directory("work");
    const Outcome outcome = run_exec({"--timeout", "1s"}, {program("static_counter"), "50"}, work);
    EXPECT_GT(outcome.exit_code, 0);
    EXPECT_TRUE(contains(outcome.err, "timeout") || contains(outcome.err, "timed out"))
        << outcome.err;
    EXPECT_FALSE(contains(outcome.out, "count 2499 "));
}

TEST_F(Exec, KeepsToTheMemoryAllowed) {
    const fs::path work = directory("work");
    const Outcome small =
        run_exec({"--memory", "256M"}, {program("large_memory"), "0.2", "32"}, work);
    EXPECT_EQ(small.exit_code, 0) << small.err;
    const Outcome large =
        run_exec({"--memory", "64M"}, {program("large_memory"), "0.2", "400"}, work);
    // Where the machine has no memory control, exec must have said so instead.
    EXPECT_TRUE(large.exit_code != 0 || contains(large.err, "--memory"))
        << "400 MiB were used where 64 were allowed, without a word";
    if (large.exit_code != 0) {
        EXPECT_TRUE(contains(large.err, "memory")) << large.err;
    }
}

TEST_F(Exec, ForwardsSignals) {
    const std::vector<std::pair<int, std::string>> signals = {{SIGTERM, "TERM"}, {SIGINT, "INT"},
                                                              {SIGHUP, "HUP"},   {SIGUSR1, "USR1"},
                                                              {SIGUSR2, "USR2"}, {SIGQUIT, "QUIT"}};
    const auto exec =
        start_exec({"--output", "live"}, {program("catch_signals"), "6"}, directory("work"));
    std::string expected = "ready\n";
    ASSERT_TRUE(wait_until([&] { return exec->out_so_far() == expected; }));
    for (const auto& [number, name] : signals) {
        exec->send_signal(number);
        expected += "caught " + name + "\n";
        EXPECT_TRUE(wait_until([&] { return exec->out_so_far() == expected; }))
            << name << ": " << exec->out_so_far();
        if (HasFailure()) return;
    }
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 16);
}

TEST_F(Exec, StopsAndContinuesTheProgram) {
    const auto exec =
        start_exec({"--name", "job"}, {program("static_counter"), "3"}, directory("work"));
    const std::optional<VcStatus> vc = running_vc("job");
    ASSERT_TRUE(vc);
    exec->send_signal(SIGTSTP);
    EXPECT_TRUE(wait_until([&] { return process_state(vc->root_pid) == 'T'; }));
    // The command stops after its program; what wakes it before is lost on it.
    EXPECT_TRUE(wait_until([&] { return process_state(exec->pid()) == 'T'; }));
    exec->send_signal(SIGCONT);
    EXPECT_TRUE(wait_until([&] { return process_state(vc->root_pid) != 'T'; }));
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
}

TEST_F(Exec, DiesOfASignalThatTheProgramDoesNotHandle) {
    const auto exec =
        start_exec({"--name", "job"}, {program("static_counter"), "50"}, directory("work"));
    ASSERT_TRUE(running_vc("job"));
    exec->send_signal(SIGTERM);
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 128 + SIGTERM);
}

TEST_F(Exec, GivesATerminalInsideWhenThereIsOne) {
    const auto exec =
        start_exec({}, {program("terminal"), "3"}, directory("work"), Input::terminal());
    const auto shows = [&](const std::string& text) {
        return wait_until([&] { return contains(exec->out_so_far(), text); });
    };
    ASSERT_TRUE(shows("terminal 1 1 1")) << exec->out_so_far();
    exec->set_window(33, 111);
    EXPECT_TRUE(shows("changed to 33 rows 111 columns")) << exec->out_so_far();
    exec->write_input("some words\n");
    EXPECT_TRUE(shows("typed some words")) << exec->out_so_far();
    exec->write_input("\x03");
    EXPECT_TRUE(shows("interrupted")) << exec->out_so_far();
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
}

TEST_F(Exec, GivesNoTerminalWhereThereIsNone) {
    const Outcome outcome = run_exec({}, {program("terminal"), "0"}, directory("work"));
    EXPECT_TRUE(outcome.out.starts_with("terminal 0 0 0\n")) << outcome.out << outcome.err;
}

TEST_F(Exec, WaitsForADaemonisingChild) {
    expect_like_plain({program("daemonise"), "1"});
    EXPECT_TRUE(fs::exists(world() / "work" / "daemon.txt"));
}

TEST_F(Exec, RefusesTheHomeDirectoryAsWorkingDirectory) {
    const Outcome outcome = run_exec({}, {"/bin/true"}, environment()["HOME"]);
    EXPECT_EQ(outcome.exit_code, 125);
    EXPECT_TRUE(contains(outcome.err, environment()["HOME"]) && contains(outcome.err, "--expose"))
        << outcome.err;
}

TEST_F(Exec, WorksWhereTheWorkingDirectoryIsInTmp) {
    std::string pattern = "/tmp/ppdsm-test-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    const Outcome outcome =
        run_exec({}, {"sh", "-c", "pwd; echo kept > result; echo gone > /tmp/ppdsm-test-elsewhere"},
                 pattern);
    EXPECT_EQ(outcome.out, pattern + "\n") << outcome.err;
    EXPECT_EQ(read_whole(fs::path(pattern) / "result"), "kept\n");
    EXPECT_FALSE(fs::exists("/tmp/ppdsm-test-elsewhere"));
    fs::remove_all(pattern);
}

TEST_F(Exec, ReportsEventsInOrder) {
    const fs::path events = world() / "events.jsonl";
    const Outcome outcome = run_exec({"--checkpoint-every", "300ms", "--events", events, "--stats"},
                                     {program("static_counter"), "2"}, directory("work"));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const std::vector<Event> all = read_events(events);
    ASSERT_GE(all.size(), 3U);
    EXPECT_EQ(all.front().kind, "started");
    EXPECT_EQ(all.back().kind, "finished");
    EXPECT_EQ(all.back().fields.value("exit", -1), 0);
    std::uint64_t before = 0;
    for (const Event& event : all) {
        if (event.kind != "checkpoint_committed") continue;
        const auto generation = event.fields.value("generation", std::uint64_t{0});
        EXPECT_GT(generation, before);
        EXPECT_TRUE(event.fields.contains("pause_ms") && event.fields.contains("bytes_new") &&
                    event.fields.contains("bytes_total"))
            << event.fields;
        before = generation;
    }
    EXPECT_GT(before, 0U);
}

TEST_F(Exec, TwoRunsOnOneHomeDoNotDisturbEachOther) {
    const Arguments argv = {program("pipes"), "1.5"};
    const Outcome plain = run_plain(argv, directory("plain"));
    const Arguments often = {"--checkpoint-every", "300ms"};
    const auto first = start_exec(often, argv, directory("first"));
    const auto second = start_exec(often, argv, directory("second"));
    EXPECT_TRUE(none(outcome_difference(plain, first->wait(kDeadline))));
    EXPECT_TRUE(none(outcome_difference(plain, second->wait(kDeadline))));
}

}  // namespace
}  // namespace ppdsm::process_test
