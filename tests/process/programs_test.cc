// Goal: every kind of state that a kernel keeps for a program survives the death of any of its
// processes. Method: a program a behaviour (programs/), run plain, then killed at random moments
// under `ppdsm exec`; output, exit code and files must be those of the plain run, byte for byte.
#include <string>
#include <tuple>

#include "tests/process/recovery.h"

namespace ppdsm::process_test {
namespace {

using Parameter = std::tuple<std::string, Victim>;

class Programs : public RecoveryTest, public testing::WithParamInterface<Parameter> {
protected:
    static Job job(const std::string& name) {
        Job job;
        job.name = name;
        job.argv = {program(name)};
        if (name == "file_writes") {
            job.prepare = [](const fs::path& directory) {
                write_text(directory / "given.txt", "was here before\n");
                fs::create_directory(directory / "untouched");
                write_text(directory / "untouched" / "script", "#!/bin/sh\n", 0755);
            };
        } else if (name == "stdin_copy") {
            const fs::path input = testing::TempDir() + "/ppdsm-stdin-" + std::to_string(getpid());
            write_prose(input, 600'001);
            job.input = Input::text_then_end(read_whole(input));
            fs::remove(input);
        } else if (name == "large_memory") {
            job.argv = {program(name), "3", "96"};
        }
        return job;
    }
};

TEST_P(Programs, PrintTheSameWhenKilled) {
    const auto& [name, victim] = GetParam();
    expect_survives(job(name), victim);
}

// The same as an ordinary user, whose sandbox and checkpoints are of another make.
class ProgramsOfOrdinaryUser : public Programs {
protected:
    void SetUp() override {
        Programs::SetUp();
        if (!IsSkipped()) become_ordinary_user();
    }
};

TEST_P(ProgramsOfOrdinaryUser, PrintTheSameWhenKilled) {
    const auto& [name, victim] = GetParam();
    expect_survives(job(name), victim);
}

std::string parameter_name(const testing::TestParamInfo<Parameter>& info) {
    return std::get<0>(info.param) + "_" + victim_name(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(
    AnyVictim, Programs,
    testing::Combine(testing::Values("cxx_threads", "deleted_alias", "deleted_file", "epoll",
                                     "file_writes", "fork_tree", "interleave", "large_memory",
                                     "memfd", "mmap_private", "mmap_shared", "monotonic", "pipes",
                                     "rings", "segfault", "shared_descriptors", "signal_queue",
                                     "static_counter", "threads_futex", "timers", "unix_sockets"),
                     testing::Values(Victim::kRoot, Victim::kInit, Victim::kExecutor)),
    parameter_name);

// The first process of a daemon has gone by the time of the kill.
INSTANTIATE_TEST_SUITE_P(NoRoot, Programs,
                         testing::Combine(testing::Values("daemonise"),
                                          testing::Values(Victim::kInit, Victim::kExecutor)),
                         parameter_name);

// What the executor has not yet read of a pipe dies with it, so that nothing could go on from
// there.
INSTANTIATE_TEST_SUITE_P(FromPipe, Programs,
                         testing::Combine(testing::Values("stdin_copy"),
                                          testing::Values(Victim::kRoot, Victim::kInit)),
                         parameter_name);

// Without "memfd", which only root can checkpoint.
INSTANTIATE_TEST_SUITE_P(
    Root, ProgramsOfOrdinaryUser,
    testing::Combine(testing::Values("cxx_threads", "deleted_alias", "deleted_file", "epoll",
                                     "file_writes", "fork_tree", "interleave", "large_memory",
                                     "mmap_private", "mmap_shared", "monotonic", "pipes", "rings",
                                     "segfault", "shared_descriptors", "signal_queue",
                                     "static_counter", "threads_futex", "timers", "unix_sockets"),
                     testing::Values(Victim::kRoot)),
    parameter_name);

INSTANTIATE_TEST_SUITE_P(OtherVictim, ProgramsOfOrdinaryUser,
                         testing::Combine(testing::Values("cxx_threads", "daemonise",
                                                          "deleted_file", "file_writes",
                                                          "fork_tree"),
                                          testing::Values(Victim::kInit, Victim::kExecutor)),
                         parameter_name);

}  // namespace
}  // namespace ppdsm::process_test
