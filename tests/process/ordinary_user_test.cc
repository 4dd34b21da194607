// Goal: an ordinary user's program sees itself as it does without ppdsm, before and after kill -9;
// what of it only root can checkpoint is named, and the program runs on without. Method: the real
// command, started as a user that owns nothing but the test's directory. What survives of a program
// is the subject of programs_test.cc.
#include <signal.h>

#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

class OrdinaryUser : public CheckpointedRunTest {
protected:
    void SetUp() override {
        CheckpointedRunTest::SetUp();
        if (!IsSkipped()) become_ordinary_user();
    }
};

TEST_F(OrdinaryUser, IsWhoHeIs) {
    const Arguments argv = {program("identity"), "HOME"};
    const Outcome plain = run_plain(argv, directory("work"));
    EXPECT_TRUE(none(outcome_difference(plain, run_exec({}, argv, directory("work")))));
}

TEST_F(OrdinaryUser, IsToldToBeProtected) {
    const Outcome outcome = run_ppdsm({"doctor"});
    EXPECT_TRUE(contains(outcome.out, "ppdsm exec works here, with checkpoints")) << outcome.out;
}

TEST_F(OrdinaryUser, KeepsHisProcAndHostName) {
    const char* script =
        "look() { echo \"$(id -u) $(id -g) $(uname -n) $(cat /proc/sys/kernel/hostname)\";"
        " test $(sh -c 'echo $$; readlink /proc/self' | uniq | wc -l) = 2 && cat /proc/$$/comm;"
        " ls -d /proc/1 /dev/null; grep -c . /proc/net/dev; }\n"
        "look; sleep 3; look; touch made; ls";
    const Arguments argv = {"/bin/sh", "-c", script};
    const auto exec = start_exec(options(), argv, directory("work"));
    kill_once(*exec);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    ASSERT_TRUE(outcome.out.ends_with("made\n")) << outcome.out << outcome.err;
    const std::string looks = outcome.out.substr(0, outcome.out.size() - 5);
    EXPECT_EQ(looks.substr(0, looks.size() / 2), looks.substr(looks.size() / 2));
}

/// Stores into a page that stays dirty do not move a file's times: only who knows that it is mapped
/// copies it again for a later generation.
TEST_F(OrdinaryUser, FindsHisMappedFilesAsTheyWere) {
    const char* script = R"(
import mmap, os, struct, sys, time
with open('data', 'wb') as file: file.write(bytes(4096))
file = open('data', 'r+b')
data = mmap.mmap(file.fileno(), 4096)
for step in range(1, 4000):
    found = struct.unpack_from('q', data, 0)[0]
    if found != step - 1: sys.exit(f'step {step}: the file has {found}')
    struct.pack_into('q', data, 0, step)
    time.sleep(0.001)
print('agreed')
)";
    const auto exec = start_exec(options(), {"/usr/bin/python3", "-c", script}, directory("work"));
    kill_once(*exec, 4);
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.out, "agreed\n") << outcome.err;
    EXPECT_EQ(outcome.exit_code, 0);
}

TEST_F(OrdinaryUser, HasATerminalThatOutlivesTheProgramsDeath) {
    expect_terminal_outlives_a_death();
}

struct Unseen {
    const char* kind;
    const char* reason;
};
class OrdinaryUserUnseen : public OrdinaryUser, public testing::WithParamInterface<Unseen> {};

TEST_P(OrdinaryUserUnseen, IsNamedAndNoCheckpointLacksIt) {
    const Arguments argv = {program("unseen_state"), "1", GetParam().kind};
    const Outcome plain = run_plain(argv, directory("work"));
    const Outcome outcome = run_exec(options(), argv, directory("work"));
    EXPECT_TRUE(none(outcome_difference(plain, outcome)));
    EXPECT_EQ(count_events(events(), "checkpoint_committed"), 0U);
    EXPECT_TRUE(contains(outcome.err, std::string("ppdsm: not protected: ") + GetParam().reason))
        << outcome.err;
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, OrdinaryUserUnseen,
    testing::Values(Unseen{"memory-file", "the program maps a memory file"},
                    Unseen{"semaphore", "the program uses System V semaphores"},
                    Unseen{"shared-part", "the program maps shared memory in part"},
                    Unseen{"system-call-filter", "the program filters its own system calls"}),
    [](const auto& parameter) {
        std::string name = parameter.param.kind;
        for (char& c : name) c = c == '-' ? '_' : c;
        return name;
    });

}  // namespace
}  // namespace ppdsm::process_test
