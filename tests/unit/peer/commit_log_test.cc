// Goal: the commit log is all or nothing record by record, whatever a kill or a bad disk left of
// it. Method: a real log, cut at every length and flipped at every byte.
#include "runtime/peer/commit_log.h"

#include <gtest/gtest.h>
#include <stdlib.h>

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

class CommitLogTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "ppdsm-commits-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
    }
    void TearDown() override { fs::remove_all(directory_); }
    [[nodiscard]] fs::path path() const { return directory_ / "commits.log"; }

    static GenerationRecord record(std::uint64_t generation) {
        GenerationRecord record;
        record.generation = generation;
        record.predecessor = generation - 1;
        record.manifest = ChunkId::of(as_bytes("manifest " + std::to_string(generation)));
        record.output_bytes = 100 * generation;
        record.input_signals = generation;
        return record;
    }
    void write_two_generations() {
        Result<CommitLog> log = CommitLog::open(path());
        ASSERT_TRUE(log);
        ASSERT_TRUE(log->begin_epoch());
        ASSERT_TRUE(log->commit(record(1)));
        ASSERT_TRUE(log->commit(record(2)));
    }

    fs::path directory_;
};

TEST_F(CommitLogTest, SaysAfterReopeningWhatWasCommitted) {
    write_two_generations();
    Result<CommitLog> log = CommitLog::open(path());
    ASSERT_TRUE(log);
    EXPECT_EQ(log->state().epoch, 1U);
    ASSERT_EQ(log->state().generations.size(), 2U);
    EXPECT_EQ(log->state().last()->generation, 2U);
    EXPECT_EQ(log->state().last()->manifest, record(2).manifest);
    EXPECT_EQ(log->state().last()->output_bytes, 200U);
    ASSERT_TRUE(log->note_dropped(1));
    ASSERT_TRUE(log->end({.wait_status = 7 << 8, .output_bytes = 222, .failure = {}}));
    const Result<CommitState> state = CommitLog::read(path());
    ASSERT_TRUE(state);
    ASSERT_EQ(state->generations.size(), 1U);
    ASSERT_TRUE(state->end);
    EXPECT_EQ(state->end->wait_status, 7 << 8);
    EXPECT_FALSE(state->applied);
}

TEST_F(CommitLogTest, CutAnywhereItHoldsTheWholeRecordsBefore) {
    write_two_generations();
    const std::string whole = read_text(path()).value();
    std::size_t generations_before = 0;
    for (std::size_t length = 0; length <= whole.size(); ++length) {
        ASSERT_TRUE(replace_file(path(), as_bytes(whole.substr(0, length))));
        const Result<CommitState> state = CommitLog::read(path());
        ASSERT_TRUE(state) << "cut at " << length << ": " << state.error().message();
        EXPECT_GE(state->generations.size(), generations_before);
        generations_before = state->generations.size();
    }
    EXPECT_EQ(generations_before, 2U);
}

TEST_F(CommitLogTest, AppendsBehindATornRecord) {
    write_two_generations();
    const std::string whole = read_text(path()).value();
    ASSERT_TRUE(replace_file(path(), as_bytes(whole.substr(0, whole.size() - 5))));
    {
        Result<CommitLog> log = CommitLog::open(path());
        ASSERT_TRUE(log);
        EXPECT_EQ(log->state().last()->generation, 1U);
        ASSERT_TRUE(log->commit(record(2)));
    }
    EXPECT_EQ(read_text(path()).value(), whole);
}

TEST_F(CommitLogTest, AFlippedByteIsNeverAnotherRecord) {
    write_two_generations();
    const std::string whole = read_text(path()).value();
    for (std::size_t at = 0; at < whole.size(); ++at) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ 1);
        ASSERT_TRUE(replace_file(path(), as_bytes(damaged)));
        const Result<CommitState> state = CommitLog::read(path());
        if (at + 1 < whole.size()) {
            ASSERT_FALSE(state) << "byte " << at;
            EXPECT_EQ(state.error().code(), Code::kCorrupt);
        } else {
            // Without its newline the last record looks torn: then it was never there.
            ASSERT_TRUE(state) << "byte " << at;
            EXPECT_EQ(state->generations.size(), 1U);
        }
    }
}

}  // namespace
}  // namespace ppdsm
