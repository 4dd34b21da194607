// Goal: what was asked for in vain is read back once each, whatever became of the writer. Method: a
// log in a temporary directory, written by several incarnations, damaged by hand.
#include "criu-glue/sandbox/refusal_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ppdsm {
namespace {

namespace fs = std::filesystem;
using Paths = std::vector<std::string>;
using Kind = RefusalLog::Kind;

class RefusalLogTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "ppdsm-refusals-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
    }
    void TearDown() override { fs::remove_all(directory_); }
    [[nodiscard]] fs::path log() const { return directory_ / "refusals.log"; }
    /// One incarnation's notes.
    void write(const std::vector<std::pair<Kind, std::string>>& notes) const {
        Result<RefusalLog> writer = RefusalLog::open(log());
        ASSERT_TRUE(writer) << writer.error().message();
        for (const auto& [kind, path] : notes) writer->note(kind, path);
    }

    fs::path directory_;
};

TEST_F(RefusalLogTest, NothingWasRefusedWhereThereIsNoLog) {
    EXPECT_TRUE(read_refusals(log()).empty());
    EXPECT_FALSE(read_refusals(log()).more);
}

TEST_F(RefusalLogTest, IncarnationsAreReadAsOne) {
    write({{Kind::kNotExposed, "/b"}, {Kind::kNotExposed, "/a"}, {Kind::kNotExposed, "/b"}});
    write({{Kind::kNotExposed, "/a"}, {Kind::kWrite, "/c"}, {Kind::kNotExposed, "/d"}});
    const Refusals refusals = read_refusals(log());
    EXPECT_EQ(refusals.not_exposed, (Paths{"/b", "/a", "/d"}));
    EXPECT_EQ(refusals.writes, Paths{"/c"});
    EXPECT_FALSE(refusals.more);
}

TEST_F(RefusalLogTest, OfWhatWasAbsentElsewhereThatIsNamedWhichHomeHas) {
    write({{Kind::kAbsent, "/nowhere"}, {Kind::kAbsent, log()}, {Kind::kNotExposed, "/a"}});
    EXPECT_EQ(read_refusals(log()).not_exposed, (Paths{"/a", log()}));
    EXPECT_EQ(read_refusals(log(), false).not_exposed, Paths{"/a"});
}

TEST_F(RefusalLogTest, WhatWasToBeWrittenIsNotMissingBesides) {
    write({{Kind::kNotExposed, "/a"}, {Kind::kWrite, "/a"}});
    const Refusals refusals = read_refusals(log());
    EXPECT_EQ(refusals.not_exposed, Paths{});
    EXPECT_EQ(refusals.writes, Paths{"/a"});
}

TEST_F(RefusalLogTest, WhatCouldNotBeFetchedIsNamedWithItsReasons) {
    const std::string odd = "/odd \xff\n";
    for (int incarnation = 0; incarnation < 2; ++incarnation) {
        Result<RefusalLog> writer = RefusalLog::open(log());
        ASSERT_TRUE(writer) << writer.error().message();
        writer->note_unfetched(odd, "changed at home");
        writer->note_unfetched(odd, "changed at home");
        writer->note_unfetched(odd, "the owner is gone");
        writer->note(Kind::kNotExposed, odd);
    }
    const Refusals refusals = read_refusals(log());
    const std::vector<std::pair<std::string, std::string>> expected = {{odd, "changed at home"},
                                                                       {odd, "the owner is gone"}};
    EXPECT_EQ(refusals.unfetched, expected);
    EXPECT_EQ(refusals.not_exposed, Paths{odd});
    EXPECT_FALSE(refusals.empty());
}

TEST_F(RefusalLogTest, AnyBytesComeBack) {
    const std::string path = "/with \"quotes\"\n\\ and \xff\xc3\xa4";
    write({{Kind::kNotExposed, path}});
    EXPECT_EQ(read_refusals(log()).not_exposed, Paths{path});
}

TEST_F(RefusalLogTest, DamagedLinesArePassedOver) {
    write({{Kind::kNotExposed, "/a"}});
    std::ofstream(log(), std::ios::app) << "[]\n{\"not_exposed\":7}\n{\"not_exp\n\n";
    write({{Kind::kNotExposed, "/b"}});
    EXPECT_EQ(read_refusals(log()).not_exposed, (Paths{"/a", "/b"}));
}

TEST_F(RefusalLogTest, IsBounded) {
    std::vector<std::pair<Kind, std::string>> notes;
    for (std::size_t i = 0; i < RefusalLog::kMostPaths; ++i) {
        notes.emplace_back(Kind::kNotExposed, "/" + std::to_string(i));
    }
    write(notes);
    EXPECT_EQ(read_refusals(log()).not_exposed.size(), RefusalLog::kMostPaths);
    EXPECT_FALSE(read_refusals(log()).more);
    for (const char* path : {"/more", "/still more"}) notes.emplace_back(Kind::kNotExposed, path);
    fs::remove(log());
    write(notes);
    const Refusals refusals = read_refusals(log());
    EXPECT_EQ(refusals.not_exposed.size(), RefusalLog::kMostPaths);
    EXPECT_TRUE(refusals.more);
}

}  // namespace
}  // namespace ppdsm
