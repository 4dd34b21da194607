// Goal: the end of a run says in few lines what was missed and which --expose gives it. Method:
// refusals made up here, lines compared as people read them.
#include "cli/refusal_report.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace ppdsm {
namespace {

using Lines = std::vector<std::string>;

const Advice kAdvice{0, "/state/refusals.log"};

Lines describe(std::vector<std::string> not_exposed, std::vector<std::string> writes = {}) {
    return describe_refusals({std::move(not_exposed), std::move(writes), false}, kAdvice);
}

TEST(RefusalReport, IsSilentWhenNothingWasRefused) { EXPECT_EQ(describe({}), Lines{}); }

TEST(RefusalReport, NamesAPathWithItsExposure) {
    EXPECT_EQ(describe({"/srv/data/input.txt", "/opt2"}),
              (Lines{"not exposed, though asked for (2):",
                     "  /srv/data/input.txt   --expose /srv/data/input.txt",
                     "  /opt2   --expose /opt2"}));
}

TEST(RefusalReport, NamesSeveralOfADirectoryByIt) {
    EXPECT_EQ(describe({"/srv/a", "/mnt/x", "/srv/b", "/srv/c"}),
              (Lines{"not exposed, though asked for (4):", "  /srv (3 paths)   --expose /srv",
                     "  /mnt/x   --expose /mnt/x"}));
}

TEST(RefusalReport, AdvisesNothingTooWide) {
    EXPECT_EQ(describe({"/etc/a", "/etc/b", "/etc/c", "/home"}),
              (Lines{"not exposed, though asked for (4):", "  /etc/a   --expose /etc/a",
                     "  /etc/b   --expose /etc/b", "  /etc/c   --expose /etc/c", "  /home"}));
}

TEST(RefusalReport, AdvisesTheNearestDirectoryForWrites) {
    EXPECT_EQ(describe({}, {"/usr/none/such/file", "/none", "/run/lock"}),
              (Lines{"writes refused outside the writable places (3):",
                     "  /usr/none/such/file   --expose /usr:rw", "  /none", "  /run/lock"}));
}

TEST(RefusalReport, KeepsToTenLinesAndSaysWhereTheRestIs) {
    std::vector<std::string> paths;
    for (int i = 0; i < 14; ++i) paths.push_back("/srv" + std::to_string(i) + "/file");
    const Lines lines = describe(paths);
    ASSERT_EQ(lines.size(), 12U);
    EXPECT_EQ(lines.back(), "  and 4 more: see /state/refusals.log");
}

TEST(RefusalReport, SaysWhenNotAllAreKnown) {
    EXPECT_EQ(describe_refusals({{"/opt2"}, {}, true}, kAdvice).front(),
              "not exposed, though asked for (1 and more):");
}

TEST(RefusalReport, SaysWhyAFileCouldNotBeFetched) {
    Refusals refusals;
    for (int i = 0; i < 11; ++i) {
        refusals.unfetched.emplace_back("/srv/" + std::to_string(i), "\x1b changed at home");
    }
    const Lines lines = describe_refusals(refusals, kAdvice);
    ASSERT_EQ(lines.size(), 12U);
    EXPECT_EQ(lines[0], "could not be fetched from their owner (11):");
    EXPECT_EQ(lines[1], "  /srv/0: ? changed at home");
    EXPECT_EQ(lines[11], "  and 1 more: see /state/refusals.log");
}

TEST(RefusalReport, QuotesForTheShellAndTheTerminal) {
    EXPECT_EQ(describe({"/srv/two words", "/srv2/it's", "/srv3/\x1b[2J\n"}),
              (Lines{"not exposed, though asked for (3):",
                     "  '/srv/two words'   --expose '/srv/two words'",
                     "  '/srv2/it'\\''s'   --expose '/srv2/it'\\''s'",
                     "  $'/srv3/\\x1b[2J\\x0a'   --expose $'/srv3/\\x1b[2J\\x0a'"}));
}

}  // namespace
}  // namespace ppdsm
