// Goal: a replaced file holds the old bytes or the new ones, and what a killed writer left is
// found. Method: real files in a directory of the test's own.
#include "dsm/base/files.h"

#include <gtest/gtest.h>
#include <stdlib.h>

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

class FilesTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "ppdsm-files-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
    }
    void TearDown() override { fs::remove_all(directory_); }
    fs::path directory_;
};

TEST_F(FilesTest, ReplacesWholeContent) {
    const fs::path path = directory_ / "record";
    ASSERT_TRUE(replace_file(path, as_bytes("first, longer")));
    ASSERT_TRUE(replace_file(path, as_bytes("second")));
    EXPECT_EQ(read_text(path).value(), "second");
}

TEST_F(FilesTest, UncommittedFileLeavesTheOldOne) {
    const fs::path path = directory_ / "record";
    ASSERT_TRUE(replace_file(path, as_bytes("old")));
    {
        Result<PendingFile> pending = PendingFile::create(path);
        ASSERT_TRUE(pending);
        ASSERT_TRUE(write_all(pending->fd(), as_bytes("new")));
    }
    EXPECT_EQ(read_text(path).value(), "old");
    EXPECT_EQ(std::distance(fs::directory_iterator(directory_), {}), 1);
}

TEST_F(FilesTest, RemovesWhatAKilledWriterLeft) {
    ASSERT_TRUE(replace_file(directory_ / "record.pending-4711", as_bytes("half")));
    ASSERT_TRUE(replace_file(directory_ / "record", as_bytes("whole")));
    ASSERT_TRUE(remove_stale_pending(directory_));
    EXPECT_FALSE(fs::exists(directory_ / "record.pending-4711"));
    EXPECT_TRUE(fs::exists(directory_ / "record"));
}

TEST_F(FilesTest, NamesTheMissingFileAndTheReason) {
    const Result<std::string> missing = read_text(directory_ / "absent");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code(), Code::kNotFound);
    EXPECT_NE(missing.error().message().find("absent: No such file"), std::string::npos);
}

TEST_F(FilesTest, RefusesAFileLargerThanItMayBe) {
    ASSERT_TRUE(replace_file(directory_ / "large", as_bytes("0123456789")));
    const Result<Bytes> read = read_file(directory_ / "large", 9);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace ppdsm
