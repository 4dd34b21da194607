// Goal: a program with virtual threads gives under kills the answer that it gives by itself.
// Method: kernels that exchange messages, killed in the middle of their work and brought back.
#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

class Kernels : public CheckpointedRunTest, public testing::WithParamInterface<Arguments> {};

TEST_P(Kernels, AnswerTheSameWhenKilled) {
    Arguments argv = GetParam();
    argv.front() = PPDSM_KERNELS "/" + argv.front();
    const fs::path work = directory("work");
    const Outcome plain = run_plain(argv, work);
    ASSERT_EQ(plain.exit_code, 0) << plain.err;
    const auto exec = start_exec(options(), argv, work);
    kill_once(*exec);
    const Outcome killed = exec->wait(kDeadline);
    EXPECT_EQ(killed.exit_code, 0) << killed.err;
    EXPECT_EQ(killed.out, plain.out);
    EXPECT_GE(count_events(events(), "restored"), 1U);
}

INSTANTIATE_TEST_SUITE_P(
    Spread, Kernels,
    testing::Values(Arguments{"life", "--size", "1000", "--generations", "500"},
                    Arguments{"ga_tsp", "--in-step", "--size", "100", "--generations", "2000"}),
    [](const auto& kernel) { return kernel.param.front(); });

}  // namespace
}  // namespace ppdsm::process_test
