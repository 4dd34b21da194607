// Goal: a receiver of several senders gets what any of them sends, starves none, sleeps while all
// are silent and is woken by each. Method: rings in one thread, then senders that are processes.
#include "dsm/core/rings/ring_set.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <memory>
#include <vector>

#include "dsm/core/rings/seal.h"
#include "tests/unit/core/rings/process.h"
#include "tests/unit/core/rings/shared_ring.h"

namespace ppdsm::rings {
namespace {

constexpr std::size_t kSenders = 3;

class RingSetTest : public testing::Test {
protected:
    RingSetTest() {
        for (const SharedRing& ring : rings_) {
            readers_.push_back(std::make_unique<RingReader>(ring.reader()));
            EXPECT_TRUE(set_.add(*readers_.back()));
        }
    }
    SharedRing rings_[kSenders];
    std::vector<std::unique_ptr<RingReader>> readers_;
    RingSet set_;
    Frame frame_;
    RingReader* from_ = nullptr;
};

TEST_F(RingSetTest, TakesTurns) {
    for (const SharedRing& ring : rings_) {
        RingWriter writer = ring.writer();
        for (int i = 0; i < 2; ++i) ASSERT_EQ(write_text(writer, "x"), RingCode::kDone);
    }
    std::vector<int> taken(kSenders);
    for (std::size_t i = 0; i < kSenders; ++i) {
        ASSERT_EQ(set_.peek(frame_, from_), RingCode::kDone);
        for (std::size_t k = 0; k < kSenders; ++k) taken[k] += from_ == readers_[k].get() ? 1 : 0;
        from_->take();
    }
    EXPECT_EQ(taken, std::vector<int>(kSenders, 1));
}

TEST_F(RingSetTest, EndsAtItsDeadlineWithAllBellsSilent) {
    EXPECT_EQ(set_.peek(frame_, from_, Deadline::after_ns(1'000'000)), RingCode::kTimedOut);
    for (const SharedRing& ring : rings_) EXPECT_EQ(ring.control().reader.sleeping.load(), 0U);
}

TEST_F(RingSetTest, TellsOfASealAndGoesOnWithoutThatRing) {
    Seal seal;
    ASSERT_EQ(seal_ring(rings_[1].memory(), rings_[1].size_bytes(), 2, seal), RingCode::kDone);
    ASSERT_EQ(set_.peek(frame_, from_), RingCode::kSealed);
    EXPECT_EQ(from_, readers_[1].get());
    set_.remove(*from_);
    EXPECT_EQ(set_.try_peek(frame_, from_), RingCode::kEmpty);
    RingWriter writer = rings_[2].writer();
    ASSERT_EQ(write_text(writer, "x"), RingCode::kDone);
    ASSERT_EQ(set_.peek(frame_, from_), RingCode::kDone);
    EXPECT_EQ(from_, readers_[2].get());
}

TEST_F(RingSetTest, HoldsSoManyAndNoMore) {
    for (std::uint32_t i = kSenders; i < RingSet::kMostRings; ++i) {
        ASSERT_TRUE(set_.add(*readers_[0]));
    }
    EXPECT_FALSE(set_.add(*readers_[0]));
}

TEST_F(RingSetTest, GetsEverythingFromSendersThatAreProcesses) {
    constexpr std::uint64_t kEach = 3000;
    std::vector<std::unique_ptr<Process>> senders;
    for (const SharedRing& ring : rings_) {
        senders.push_back(std::make_unique<Process>([&ring] {
            RingWriter writer = ring.writer();
            for (std::uint64_t i = 1; i <= kEach; ++i) {
                if (writer.write(kTextKind, &i, sizeof i) != RingCode::kDone) return 1;
                if (i % 100 == 0) ::sched_yield();
            }
            return 0;
        }));
    }
    for (std::uint64_t i = 0; i < kSenders * kEach; ++i) {
        ASSERT_EQ(set_.peek(frame_, from_), RingCode::kDone);
        std::uint64_t number = 0;
        ASSERT_EQ(frame_.size_bytes, sizeof number);
        frame_.copy_to(&number);
        ASSERT_EQ(number, frame_.sequence);
        from_->take();
    }
    for (const auto& reader : readers_) EXPECT_EQ(reader->next_sequence(), kEach + 1);
    for (const auto& sender : senders) EXPECT_EQ(sender->wait(), 0);
}

TEST_F(RingSetTest, SleepsWhileNothingComesAndIsWokenByEachRing) {
    for (const SharedRing& ring : rings_) {
        Process receiver([&] { return set_.peek(frame_, from_) == RingCode::kDone ? 0 : 1; });
        while (ring.control().reader.sleeping.load() == 0 || !receiver.is_asleep()) {
            ::sched_yield();
        }
        RingWriter writer = ring.writer();
        ASSERT_EQ(write_text(writer, "x"), RingCode::kDone);
        EXPECT_EQ(receiver.wait(), 0);
        RingReader reader = ring.reader();
        ASSERT_EQ(read_text(reader), got("x"));
        // This process' reader, which has not seen that, is as a restored one would be.
        for (std::size_t i = 0; i < kSenders; ++i) *readers_[i] = rings_[i].reader();
        for (const SharedRing& other : rings_) other.control().reader.sleeping.store(0);
    }
}

}  // namespace
}  // namespace ppdsm::rings
