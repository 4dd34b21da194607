// Goal: a question to a tool always comes back, with its words and exit code, and a tool that hangs
// is killed together with its children.
#include "criu-glue/criu/tool_output.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>

#include "dsm/base/owned_fd.h"

namespace ppdsm {
namespace {

using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;

TEST(RunTool, CollectsBothStreamsAndTheExitCode) {
    const Result<ToolOutput> said = run_tool({"sh", "-c", "echo out; echo err >&2; exit 3"}, 60s);
    ASSERT_TRUE(said) << said.error().message();
    EXPECT_EQ(said->exit_code, 3);
    EXPECT_NE(said->output.find("out\n"), std::string::npos);
    EXPECT_NE(said->output.find("err\n"), std::string::npos);
}

TEST(RunTool, ReportsADeathBySignalAsAShellDoes) {
    const Result<ToolOutput> said = run_tool({"sh", "-c", "kill -TERM $$"}, 60s);
    ASSERT_TRUE(said) << said.error().message();
    EXPECT_EQ(said->exit_code, 128 + SIGTERM);
}

TEST(RunTool, NamesAProgramThatDoesNotExist) {
    const Result<ToolOutput> said = run_tool({"/proc/ppdsm-no-such-program"}, 60s);
    ASSERT_FALSE(said);
    EXPECT_EQ(said.error().code(), Code::kNotFound);
    EXPECT_NE(said.error().message().find("ppdsm-no-such-program"), std::string::npos);
}

TEST(RunTool, BoundsTheOutputThatItKeeps) {
    const Result<ToolOutput> said = run_tool({"sh", "-c", "yes | head -c 1000000"}, 60s);
    ASSERT_TRUE(said) << said.error().message();
    EXPECT_EQ(said->output.size(), std::size_t{64} << 10);
}

TEST(RunTool, KillsAToolThatHangsAndItsChildren) {
    // Both inherit a pipe of ours: its end of file shows that nobody is left.
    int ends[2];
    ASSERT_EQ(::pipe2(ends, 0), 0);  // NOLINT(android-cloexec-pipe2): inherited on purpose.
    const OwnedFd read_end(ends[0]);
    OwnedFd write_end(ends[1]);
    const Result<ToolOutput> said = run_tool({"sh", "-c", "sleep 1000 & sleep 1000"}, 200ms);
    write_end.reset();
    char byte = 0;
    EXPECT_EQ(::read(read_end.get(), &byte, 1), 0);
    ASSERT_FALSE(said);
    EXPECT_EQ(said.error().code(), Code::kUnavailable);
    EXPECT_NE(said.error().message().find("200 ms"), std::string::npos);
}

TEST(RunTool, GivesNoInput) {
    const Result<ToolOutput> said = run_tool({"cat"}, 60s);
    ASSERT_TRUE(said) << said.error().message();
    EXPECT_EQ(said->exit_code, 0);
    EXPECT_EQ(said->output, "");
}

}  // namespace
}  // namespace ppdsm
