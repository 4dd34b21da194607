// Goal: output and input come back as they were, cut at an offset or torn by a kill. Method: real
// files.
#include "runtime/peer/journals.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

class JournalsTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "ppdsm-journals-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
    }
    void TearDown() override { fs::remove_all(directory_); }
    fs::path directory_;
};

std::string read_all(const OutputLog& log, Stream stream, std::uint64_t end_bytes) {
    std::string text;
    for (std::uint64_t at = 0; at < end_bytes;) {
        const Result<OutputLog::Piece> piece = log.read(at, end_bytes);
        EXPECT_TRUE(piece);
        if (!piece) break;
        if (piece->stream == stream) text += as_text(piece->data);
        at = piece->next_bytes;
    }
    return text;
}

TEST_F(JournalsTest, OutputKeepsStreamsApartAndCutsAtAnOffset) {
    Result<OutputLog> log = OutputLog::open(directory_ / "output.log", true);
    ASSERT_TRUE(log);
    ASSERT_TRUE(log->append(Stream::kStdout, as_bytes("one ")));
    ASSERT_TRUE(log->append(Stream::kStderr, as_bytes("error")));
    ASSERT_TRUE(log->append(Stream::kStdout, as_bytes("two")));
    const std::uint64_t committed = log->size_bytes();
    ASSERT_TRUE(log->append(Stream::kStdout, as_bytes(" three")));
    EXPECT_EQ(read_all(*log, Stream::kStdout, committed), "one two");
    EXPECT_EQ(read_all(*log, Stream::kStderr, committed), "error");
    ASSERT_TRUE(log->truncate(committed));
    EXPECT_EQ(log->size_bytes(), committed);
    ASSERT_TRUE(log->append(Stream::kStdout, as_bytes(" 3")));
    EXPECT_EQ(read_all(*log, Stream::kStdout, log->size_bytes()), "one two 3");
}

TEST_F(JournalsTest, AnOffsetInsideAFrameIsRefused) {
    Result<OutputLog> log = OutputLog::open(directory_ / "output.log", true);
    ASSERT_TRUE(log);
    ASSERT_TRUE(log->append(Stream::kStdout, as_bytes("some output")));
    EXPECT_FALSE(log->read(0, log->size_bytes() - 1));
    EXPECT_FALSE(log->read(3, log->size_bytes()));
}

TEST_F(JournalsTest, InputComesBackFromAnyOffset) {
    const fs::path path = directory_ / "input.log";
    {
        Result<InputJournal> journal = InputJournal::open(path);
        ASSERT_TRUE(journal);
        ASSERT_TRUE(journal->append_data(as_bytes("hello ")));
        ASSERT_TRUE(journal->append_signal(SIGUSR1));
        ASSERT_TRUE(journal->append_data(as_bytes("world")));
        ASSERT_TRUE(journal->append_end());
    }
    const Result<InputJournal> journal = InputJournal::open(path);
    ASSERT_TRUE(journal);
    EXPECT_EQ(journal->data_bytes(), 11U);
    EXPECT_TRUE(journal->ended());
    ASSERT_EQ(journal->signal_count(), 1U);
    EXPECT_EQ(journal->signals_from(0).front(), SIGUSR1);
    for (std::uint64_t offset = 0; offset <= 11; ++offset) {
        std::string text;
        for (std::uint64_t at = offset; at < 11;) {
            const Result<Bytes> piece = journal->read(at, 4);
            ASSERT_TRUE(piece);
            ASSERT_FALSE(piece->empty());
            text += as_text(*piece);
            at += piece->size();
        }
        EXPECT_EQ(text, std::string("hello world").substr(offset));
    }
}

TEST_F(JournalsTest, ATornInputFrameWasNeverThere) {
    const fs::path path = directory_ / "input.log";
    {
        Result<InputJournal> journal = InputJournal::open(path);
        ASSERT_TRUE(journal);
        ASSERT_TRUE(journal->append_data(as_bytes("first")));
        ASSERT_TRUE(journal->append_data(as_bytes("second")));
    }
    fs::resize_file(path, fs::file_size(path) - 1);
    Result<InputJournal> journal = InputJournal::open(path);
    ASSERT_TRUE(journal);
    EXPECT_EQ(journal->data_bytes(), 5U);
    ASSERT_TRUE(journal->append_data(as_bytes("again")));
    EXPECT_EQ(as_text(*journal->read(5, 100)), "again");
}

TEST_F(JournalsTest, AHoleInTheInputIsNoInput) {
    {
        Result<InputJournal> journal = InputJournal::open(directory_ / "input.log");
        ASSERT_TRUE(journal);
        ASSERT_TRUE(journal->append_data(as_bytes("given")));
    }
    // A frame of which only the data was written, and data that looks like the end of the input.
    const OwnedFd file = open_file(directory_ / "input.log", O_WRONLY | O_APPEND).value();
    ASSERT_TRUE(write_all(file, Bytes(8)));
    ASSERT_TRUE(write_all(file, Bytes{2, 0, 0, 0, 0, 0, 0, 0}));
    Result<InputJournal> journal = InputJournal::open(directory_ / "input.log");
    ASSERT_TRUE(journal);
    EXPECT_FALSE(journal->ended());
    EXPECT_EQ(journal->data_bytes(), 5U);
    ASSERT_TRUE(journal->append_data(as_bytes("more")));
    EXPECT_EQ(as_text(*journal->read(5, 100)), "more");
}

TEST_F(JournalsTest, AJournalGoesOnWhereOneElsewhereEnded) {
    const fs::path path = directory_ / "input.log";
    {
        Result<InputJournal> journal = InputJournal::open(path);
        ASSERT_TRUE(journal);
        ASSERT_TRUE(journal->append_base(1000, 2));
        ASSERT_TRUE(journal->append_data(as_bytes("more")));
        ASSERT_TRUE(journal->append_signal(15));
    }
    for (const bool reading : {false, true}) {
        const Result<InputJournal> journal =
            reading ? InputJournal::read(path) : InputJournal::open(path);
        ASSERT_TRUE(journal);
        EXPECT_EQ(journal->data_bytes(), 1004U);
        ASSERT_EQ(journal->signal_count(), 3U);
        ASSERT_EQ(journal->signals_from(2).size(), 1U);
        EXPECT_EQ(journal->signals_from(2).front(), 15);
        EXPECT_TRUE(journal->signals_from(4).empty());
        EXPECT_EQ(as_text(journal->read(1001, 100).value()), "ore");
        EXPECT_TRUE(journal->read(10, 100).value().empty());
    }
}

TEST_F(JournalsTest, OutputGoesOnBehindAHole) {
    Result<OutputLog> first = OutputLog::open(directory_ / "first.log", true);
    Result<OutputLog> second = OutputLog::open(directory_ / "second.log", true);
    ASSERT_TRUE(first && second);
    ASSERT_TRUE(first->append(Stream::kStdout, as_bytes("one ")));
    const std::uint64_t base = first->size_bytes();
    ASSERT_TRUE(second->truncate(base));
    ASSERT_TRUE(second->append(Stream::kStdout, as_bytes("two")));
    const Result<Bytes> frames = second->read_frames(base, second->size_bytes() - base);
    ASSERT_TRUE(frames);
    ASSERT_TRUE(first->append_frames(*frames));
    EXPECT_EQ(read_all(*first, Stream::kStdout, first->size_bytes()), "one two");
}

TEST_F(JournalsTest, ABaseIsBelievedOnlyAtTheBeginningAndOnlyIfItCanBe) {
    const auto path = directory_ / "input.log";
    {
        Result<InputJournal> journal = InputJournal::open(path);
        ASSERT_TRUE(journal);
        EXPECT_EQ(journal->append_base(~std::uint64_t{0}, 0).error().code(), Code::kInvalid);
        ASSERT_TRUE(journal->append_signal(15));
        ASSERT_TRUE(journal->append_base(1000, 7));
    }
    Result<InputJournal> later = InputJournal::open(path);
    ASSERT_TRUE(later);
    EXPECT_EQ(later->signal_count(), 1U);
    // A frame of kind 4, 16 bytes, that says 2^64 - 1 signals.
    Bytes impossible = {4, 0, 0, 0, 16, 0, 0, 0};
    impossible.resize(16, 0);
    impossible.resize(24, 0xff);
    ASSERT_TRUE(replace_file(path, impossible, 0600));
    const Result<InputJournal> refused = InputJournal::open(path);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace ppdsm
