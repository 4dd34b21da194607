// Goal: a kernel's exit code says whether its answer is right.
#include "kernels/common/command.h"

#include <gtest/gtest.h>

#include <array>

namespace kernels {
namespace {

struct Ran {
    int exit_code;
    bool was_solved;
    CommonFlags flags;
};

template <std::size_t N>
Ran run(const std::array<const char*, N>& argv, const std::function<void()>& ending = [] {}) {
    Ran ran{};
    Command command("kernel", "For tests");
    command.add_common(ran.flags, {"Things", 1, 10, 5});
    ran.exit_code = command.run(static_cast<int>(N), argv.data(), [&] {
        ran.was_solved = true;
        ending();
    });
    return ran;
}

TEST(Command, SolvesWithTheFlagsGiven) {
    const Ran ran =
        run(std::array{"kernel", "--size", "7", "--workers", "3", "--seed", "9", "--check"});
    EXPECT_EQ(ran.exit_code, 0);
    EXPECT_TRUE(ran.was_solved);
    EXPECT_EQ(ran.flags.size, 7U);
    EXPECT_EQ(ran.flags.workers, 3U);
    EXPECT_EQ(ran.flags.seed, 9U);
    EXPECT_TRUE(ran.flags.check);
    EXPECT_EQ(run(std::array{"kernel"}).flags.size, 5U);
}

TEST(Command, AWrongAnswerAndAFailureAreExitCode1) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(run(std::array{"kernel"}, [] { expect(false, "two and two is five"); }).exit_code, 1);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "kernel: WRONG: two and two is five\n");
    testing::internal::CaptureStderr();
    EXPECT_EQ(run(std::array{"kernel"}, [] { throw std::runtime_error("no file"); }).exit_code, 1);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "kernel: no file\n");
}

TEST(Command, ABadCommandLineIsExitCode2AndSolvesNothing) {
    for (const char* bad : {"--size=11", "--size=x", "--workers=0", "--nonsense"}) {
        const Ran ran = run(std::array{"kernel", bad});
        EXPECT_EQ(ran.exit_code, 2) << bad;
        EXPECT_FALSE(ran.was_solved) << bad;
    }
}

TEST(Command, HelpIsNoFailureAndSolvesNothing) {
    const Ran ran = run(std::array{"kernel", "--help"});
    EXPECT_EQ(ran.exit_code, 0);
    EXPECT_FALSE(ran.was_solved);
}

}  // namespace
}  // namespace kernels
