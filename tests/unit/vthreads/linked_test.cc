// Goal: a program that was not built for it in any way spreads over processes: what the header asks
// for goes through the preloaded library, link pages and a switchboard, and comes to what a plain
// run comes to. Method: real programs, each virtual thread a real process; links are replaced while
// they speak.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "tests/unit/vthreads/linked_computer.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

class LinkedTest : public testing::Test {
protected:
    LinkedTest() {
        std::string pattern = testing::TempDir() + "linked-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
    }
    ~LinkedTest() override { fs::remove_all(directory_); }

    LinkedComputer::Outcome run(std::vector<std::string> command, std::uint32_t seed = 0) {
        const fs::path directory = directory_ / std::to_string(runs_++);
        fs::create_directory(directory);
        LinkedComputer computer(directory, std::move(command));
        if (seed != 0) computer.replace_links(seed);
        return computer.run();
    }
    LinkedComputer::Outcome behave(const std::string& how) { return run({LINKED_PROGRAM, how}); }
    std::string run_plainly(const std::vector<std::string>& command) {
        std::string line;
        for (const std::string& each : command) line += "'" + each + "' ";
        const fs::path out = directory_ / "plain-out";
        EXPECT_EQ(std::system((line + "> " + out.string() + " 2>/dev/null").c_str()), 0) << line;
        return read_text(out).value_or("");
    }

    fs::path directory_;
    int runs_ = 0;
};

TEST_F(LinkedTest, EachVirtualThreadIsAProcess) {
    const auto outcome = behave("processes");
    EXPECT_EQ(outcome.out, "apart\n") << outcome.err << outcome.failure;
    EXPECT_EQ(outcome.processes, 3);
    EXPECT_EQ(outcome.status, 0);
}

TEST_F(LinkedTest, WhatAVirtualThreadComesToIsTold) {
    const auto outcome = behave("failures");
    EXPECT_EQ(outcome.out,
              "out of range: too far\ncrashed: exit code 3\ncrashed: killed by SIGSEGV\n")
        << outcome.err << outcome.failure;
}

TEST_F(LinkedTest, MessagesLargerThanTheLinkPassWhole) {
    const auto outcome = behave("messages");
    const std::uint64_t wanted = 1 + 1000ULL * 1001 / 2 + 3'000'000ULL * 3'000'001 / 2;
    EXPECT_EQ(outcome.out, std::to_string(wanted) + "\n") << outcome.err << outcome.failure;
}

TEST_F(LinkedTest, ADeadlockIsFoundAndNamesWhoWaits) {
    const auto outcome = behave("deadlock");
    EXPECT_NE(
        outcome.out.find("virtual thread 2 (the waiting one) waits for a message of type int"),
        std::string::npos)
        << outcome.out << outcome.err << outcome.failure;
}

TEST_F(LinkedTest, PartialResultsComeInOrderEachOnce) {
    const auto outcome = behave("partials");
    EXPECT_NE(outcome.out.find("in order\n100\n"), std::string::npos) << outcome.out << outcome.err;
}

TEST_F(LinkedTest, MoreThreadsThanWorkersAllComeToTheirEnd) {
    const auto outcome = behave("many");
    EXPECT_EQ(outcome.out, "2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 \n") << outcome.err;
}

TEST_F(LinkedTest, KernelsAnswerAsTheyDoPlainly) {
    const std::string bin = KERNELS_BIN;
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{bin + "/pi", "--size", "2000000", "--check"},
          {bin + "/nqueens", "--size", "8", "--check"},
          {bin + "/life", "--size", "40", "--generations", "20", "--check"}}) {
        const std::string plain = run_plainly(command);
        const auto calm = run(command);
        EXPECT_EQ(calm.out, plain) << calm.err << calm.failure;
        EXPECT_GT(calm.processes, 2);
        const auto harmed = run(command, 7);
        EXPECT_EQ(harmed.out, plain) << harmed.err << harmed.failure;
        EXPECT_GT(harmed.replaced, 0);
    }
}

}  // namespace
}  // namespace ppdsm
