// Goal: what a program asks for outside its view it does not get, and its user learns at the end
// what it was and how to give it. Method: files beside the working directory that are not exposed;
// what the program saw, what stderr and the events say. The machine's own /dev/fuse is varied in a
// mount namespace of the test's command.
#include <signal.h>

#include <algorithm>

#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

constexpr const char* kMissed = "not exposed, though asked for";
constexpr const char* kRefused = "writes refused outside the writable places";

class Refusal : public CheckpointedRunTest {
protected:
    void SetUp() override {
        CheckpointedRunTest::SetUp();
        if (IsSkipped()) return;
        outside_ = directory("outside");
        write_text(outside_ / "input.txt", "the secret\n");
        fs::create_directory(outside_ / "deep");
        write_text(outside_ / "deep/inner.txt", "the inner secret\n");
        fs::create_symlink("input.txt", outside_ / "link");
    }
    [[nodiscard]] std::string outside(const std::string& name) const { return outside_ / name; }
    Outcome run_shell(const Arguments& options, const std::string& script) {
        return run_exec(options, {"sh", "-c", script}, directory("work"));
    }
    static std::string advice(const std::string& path, const std::string& exposure) {
        return "ppdsm:   " + path + "   --expose " + exposure + "\n";
    }
    /// A list of the `finished` event.
    [[nodiscard]] std::vector<std::string> finished(const char* list) const {
        const std::vector<Event> all = read_events(events());
        if (all.empty() || all.back().kind != "finished") return {"no event"};
        return all.back().fields.value(list, std::vector<std::string>{"no list"});
    }
    /// The command in a mount namespace of its own in which `prepare` was done as root before.
    Outcome run_where(const std::string& prepare, const Arguments& argv) {
        Arguments command = {"unshare", "-m", "sh", "-ec", prepare + "\nexec \"$@\"", "sh"};
        command.insert(command.end(), argv.begin(), argv.end());
        return start(command, directory("work"))->wait(kDeadline);
    }

    fs::path outside_;
};

TEST_F(Refusal, WhatWasNotExposedIsNamed) {
    const Outcome outcome =
        run_shell({"--events", events()}, "cat " + outside("input.txt") + " || exit 4");
    EXPECT_EQ(outcome.exit_code, 4);
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(contains(outcome.err, "No such file")) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, std::string(kMissed) + " (1):\n")) << outcome.err;
    EXPECT_TRUE(outcome.err.ends_with(advice(outside("input.txt"), outside("input.txt"))))
        << outcome.err;
    EXPECT_EQ(finished("not_exposed"), Arguments{outside("input.txt")});
    EXPECT_EQ(finished("refused_writes"), Arguments{});
}

TEST_F(Refusal, TheAdviceHelps) {
    for (const char* name : {"input.txt", "link", "deep/inner.txt", "deep"}) {
        const std::string script = "cd / && [ -d " + outside(name) + " ] && ls " + outside(name) +
                                   " || cat " + outside(name);
        const Outcome before = run_shell({}, script);
        EXPECT_NE(before.exit_code, 0) << name;
        EXPECT_TRUE(contains(before.err, advice(outside(name), outside(name)))) << before.err;
        const Outcome after = run_shell({"--expose", outside(name)}, script);
        EXPECT_EQ(after.exit_code, 0) << after.err;
        EXPECT_NE(after.out, "") << name;
        EXPECT_EQ(after.err, "") << name;
    }
}

TEST_F(Refusal, SeveralOfADirectoryAreNamedByIt) {
    std::string script = "cat";
    for (const char* name : {"a", "b", "c"}) {
        write_text(outside_ / name, "secret");
        script += " " + outside(name);
    }
    const Outcome outcome = run_shell({}, script);
    EXPECT_TRUE(contains(outcome.err, "ppdsm:   " + outside_.string() + " (3 paths)   --expose " +
                                          outside_.string() + "\n"))
        << outcome.err;
}

TEST_F(Refusal, WhatIsNowhereIsNotNamed) {
    const Outcome outcome = run_shell(
        {"--events", events()}, "cat " + outside("none") + " /no/such/file /run/none /dev/none");
    EXPECT_FALSE(contains(outcome.err, "ppdsm:")) << outcome.err;
    EXPECT_EQ(finished("not_exposed"), Arguments{});
}

TEST_F(Refusal, NothingOfAnUnexposedFileIsSeen) {
    const std::string input = outside("input.txt");
    const Outcome outcome = run_shell(
        {}, "cd " + outside_.string() + " && cat input.txt link deep/inner.txt ../outside/link\n" +
                "head " + input + "\nls -la " + outside_.string() + " " + outside("deep") +
                "\nstat -c %s " + input + " " + outside("link") + "\nreadlink " + outside("link") +
                "\nfind " + outside_.string() + "\necho " + outside_.string() + "/*\nexec < " +
                input + "\ncat");
    for (const std::string& text : {outcome.out, outcome.err}) {
        EXPECT_FALSE(contains(text, "secret")) << text;
    }
    EXPECT_EQ(outcome.out, outside_.string() + "\n" + outside_.string() + "/*\n");
}

TEST_F(Refusal, OrdinaryProgramsMissNothing) {
    const fs::path work = directory("work");
    write_text(work / "x.c", "#include <stdio.h>\nint main(void) { return puts(\"x\") < 0; }\n");
    for (const char* script :
         {"true", "exec bash -c 'echo $(id -un)'", "exec python3 -c 'import ssl, json, socket'",
          "exec perl -MFile::Temp -e 1", "gcc -c x.c && gcc -o x x.o && ./x", "xz -k -f x.c",
          "ls -la / /etc /etc/ssl > list", "date; getent hosts localhost; sort x.c | grep -c x"}) {
        EXPECT_EQ(run_exec({}, {"sh", "-c", script}, work).err, "") << script;
    }
}

TEST_F(Refusal, FilesLeftOutOfEtcAreNamed) {
    const Outcome outcome =
        run_shell({"--events", events()}, "cat /etc/shadow /etc/passwd /etc/none | grep -c ^root:");
    EXPECT_EQ(outcome.out, "1\n") << outcome.err;
    EXPECT_EQ(finished("not_exposed"), Arguments{"/etc/shadow"});
    const Outcome exposed =
        run_shell({"--expose", "/etc/shadow"}, "cat /etc/shadow /etc/passwd | grep -c ^root:");
    EXPECT_EQ(exposed.out, "2\n") << exposed.err;
}

TEST_F(Refusal, RefusedWritesAreNamed) {
    const Arguments scripts = {
        "echo > " + outside("new"),        "mkdir " + outside("new"),
        "ln -s x " + outside("new"),       "echo > " + outside("input.txt"),
        "mkfifo " + outside("new"),        "touch " + outside("deep"),
        "rmdir " + outside("deep"),        "chmod 700 " + outside("deep"),
        "mv " + outside("deep") + " /new", "mkdir -p " + outside("new/more")};
    for (const std::string& script : scripts) {
        fs::remove(events());
        const Outcome outcome = run_shell({"--events", events()}, script + " || exit 4");
        EXPECT_EQ(outcome.exit_code, 4) << script;
        EXPECT_TRUE(contains(outcome.err, "Read-only file system")) << script << outcome.err;
        EXPECT_TRUE(contains(outcome.err, std::string(kRefused) + " (1):\n")) << outcome.err;
        const std::string path = finished("refused_writes").front();
        EXPECT_TRUE(contains(script, path)) << script << ": " << path;
        EXPECT_TRUE(outcome.err.ends_with(advice(path, outside_.string() + ":rw"))) << outcome.err;
        EXPECT_EQ(finished("not_exposed"), Arguments{});
    }
    const Outcome given =
        run_shell({"--expose", outside_.string() + ":rw"}, "echo given > " + outside("new"));
    EXPECT_EQ(given.exit_code, 0) << given.err;
    EXPECT_EQ(read_whole(outside_ / "new"), "given\n");
}

TEST_F(Refusal, NamesOutliveADeath) {
    const auto exec =
        start_exec(options(),
                   {"sh", "-c",
                    "cat " + outside("input.txt") + "; echo > " + outside("new") +
                        "; i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 0.05; done"},
                   directory("work"));
    ASSERT_TRUE(wait_until(
        [&] { return count_events(events(), "checkpoint_committed") >= 1 || exec->has_ended(); }));
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    ASSERT_EQ(kill(vc->executor_pid, SIGKILL), 0);
    exec->wait(kDeadline);
    ASSERT_TRUE(wait_until([&] { return own_processes().empty(); }));
    const Outcome resumed = run_ppdsm({"resume", "job"});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_TRUE(contains(resumed.err, advice(outside("input.txt"), outside("input.txt"))) &&
                contains(resumed.err, advice(outside("new"), outside_.string() + ":rw")))
        << resumed.err;
}

TEST_F(Refusal, InodesStayThroughADeath) {
    write_text(directory("work") / "loop",
               "i=0; while [ $i -lt 40 ]; do stat -c '%i %a %Y %n' / /dev /bin /.ppdsm/init " +
                   outside_.string() + "; i=$((i+1)); sleep 0.05; done\n");
    const auto exec = start_exec(options(), {"sh", "loop"}, directory("work"));
    ASSERT_TRUE(wait_until(
        [&] { return count_events(events(), "checkpoint_committed") >= 1 || exec->has_ended(); }));
    const std::optional<VcStatus> vc = running_vc("job", 1);
    ASSERT_TRUE(vc);
    ASSERT_EQ(kill(vc->init_pid, SIGKILL), 0);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(count_events(events(), "restored"), 1U) << outcome.err;
    const std::string once = outcome.out.substr(0, outcome.out.size() / 40);
    std::string expected;
    for (int i = 0; i < 40; ++i) expected += once;
    EXPECT_TRUE(none(text_difference(expected, outcome.out)));
}

TEST_F(Refusal, AnOrdinaryUserIsToldToo) {
    const fs::path work = directory("work");
    for (const fs::path& path : {world(), home(), work}) {
        fs::permissions(path, fs::perms::others_all, fs::perm_options::add);
    }
    environment()["HOME"] = world() / "user";
    const std::string fuse = world() / "fuse";
    const std::string prepare =
        "mknod " + fuse + " c 10 229; chmod 666 " + fuse + "; mount --bind " + fuse + " /dev/fuse";
    const Outcome outcome =
        run_where(prepare, {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ppdsm(),
                            "exec", "--checkpoint-every", "off", "sh", "-c",
                            "id -u; cat " + outside("input.txt") + "; mkdir " + outside("new")});
    if (contains(outcome.err, "user namespace")) GTEST_SKIP() << outcome.err;
    EXPECT_EQ(outcome.out, "65534\n") << outcome.err;
    EXPECT_TRUE(contains(outcome.err, advice(outside("input.txt"), outside("input.txt"))) &&
                contains(outcome.err, advice(outside("new"), outside_.string() + ":rw")))
        << outcome.err;
}

TEST_F(Refusal, WithoutFuseProgramsRunAndDoctorTellsTheCost) {
    const std::string without = "mount --bind /dev/null /dev/fuse";
    const std::string script =
        "cat " + outside("input.txt") + "; mkdir " + outside("new") + "; cat /etc/passwd > copy";
    const Outcome outcome = run_where(without, {ppdsm(), "exec", "sh", "-c", script});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_FALSE(contains(outcome.err, "ppdsm:")) << outcome.err;
    EXPECT_FALSE(contains(outcome.out, "secret"));
    EXPECT_FALSE(fs::exists(outside_ / "new"));
    const Outcome doctor = run_where(without, {ppdsm(), "doctor"});
    EXPECT_TRUE(contains(doctor.out, "not named at the end")) << doctor.out;
}

}  // namespace
}  // namespace ppdsm::process_test
