// Goal: a journal gives back what was written, in order, and of a torn one all that is whole.
// Method: every kind of event; cut and flipped at every byte of the end.
#include "runtime/peer/vthreads/call_journal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "runtime/lib/link/call_layout.h"
#include "runtime/peer/vthreads/call_codec.h"

namespace ppdsm {
namespace {

using namespace switchboard;

class CallJournalTest : public testing::Test {
protected:
    CallJournalTest()
        : path_(std::filesystem::path(testing::TempDir()) /
                ("calls-" + std::to_string(::getpid()))) {
        std::filesystem::remove(path_);
    }
    ~CallJournalTest() override { std::filesystem::remove(path_); }

    /// The kinds and times of what is there.
    std::vector<std::pair<std::size_t, std::int64_t>> read() {
        std::vector<std::pair<std::size_t, std::int64_t>> seen;
        last_.clear();
        const auto journal = CallJournal::open(path_, [&](std::int64_t at_us, const Event& event) {
            seen.emplace_back(event.index(), at_us);
            last_.push_back(event);
        });
        EXPECT_TRUE(journal) << journal.error().message();
        return seen;
    }
    static Bytes a_call() {
        link::CallHeader header{};
        header.number = 5;
        header.kind = link::CallKind::kSend;
        header.thread = 3;
        header.payload_bytes = 4;
        Bytes call(sizeof header + 4, 9);
        std::memcpy(call.data(), &header, sizeof header);
        return call;
    }
    void write_all_kinds() {
        auto journal = CallJournal::open(path_, [](std::int64_t, const Event&) {});
        ASSERT_TRUE(journal);
        const Bytes call = a_call();
        const ThreadId thread{2};
        const std::vector<Event> events = {WorkerJoined{"p"},
                                           Called{*decode_call(thread, call)},
                                           Placed{thread, "p"},
                                           NotPlaced{thread, "no room"},
                                           Covered{thread, 7},
                                           RolledBack{thread, 6},
                                           Gone{thread, "by hand"},
                                           WorkerLost{"p"},
                                           Tick{}};
        std::int64_t at_us = 100;
        for (const Event& event : events) ASSERT_TRUE(journal->append(++at_us, event, call));
    }

    std::filesystem::path path_;
    std::vector<Event> last_;
};

TEST_F(CallJournalTest, GivesBackWhatWasWritten) {
    write_all_kinds();
    const std::vector<std::pair<std::size_t, std::int64_t>> wanted = {
        {7, 101}, {1, 102}, {2, 103}, {3, 104}, {4, 105}, {5, 106}, {6, 107}, {8, 108}, {0, 109}};
    EXPECT_EQ(read(), wanted);
    const auto& call = std::get<Called>(last_[1]).call;
    EXPECT_EQ(call.number, 5U);
    EXPECT_EQ(std::get<call::Send>(call.call).value.size(), 4U);
    EXPECT_EQ(std::get<Gone>(last_[6]).how, "by hand");
    EXPECT_EQ(std::get<Covered>(last_[4]).calls, 7U);
    EXPECT_EQ(read(), wanted) << "reading changes nothing";
}

TEST_F(CallJournalTest, KeepsAllThatIsWholeOfATornOne) {
    write_all_kinds();
    const auto whole = read();
    const Bytes bytes = *read_file(path_);
    for (std::size_t size = bytes.size() - 80; size < bytes.size(); ++size) {
        ASSERT_TRUE(replace_file(path_, ByteView(bytes).first(size)));
        const auto kept = read();
        ASSERT_LT(kept.size(), whole.size());
        EXPECT_TRUE(std::equal(kept.begin(), kept.end(), whole.begin()));
        // What is appended then is found again.
        auto journal = CallJournal::open(path_, [](std::int64_t, const Event&) {});
        ASSERT_TRUE(journal->append(500, Tick{}));
        EXPECT_EQ(read().size(), kept.size() + 1);
    }
}

TEST_F(CallJournalTest, BelievesNothingBehindADamagedRecord) {
    write_all_kinds();
    const std::size_t whole = read().size();
    const Bytes bytes = *read_file(path_);
    for (std::size_t at = 0; at < bytes.size(); at += 7) {
        Bytes damaged = bytes;
        damaged[at] ^= 0x10;
        ASSERT_TRUE(replace_file(path_, damaged));
        EXPECT_LT(read().size(), whole) << at;
    }
}

}  // namespace
}  // namespace ppdsm
