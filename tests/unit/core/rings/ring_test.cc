// Goal: what is written into a ring is read from it, whole, in order, once; it says when it is
// full, empty or sealed. Method: both ends in one thread, so that every step can be told.
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <thread>

#include "dsm/core/rings/error.h"
#include "dsm/core/rings/seal.h"
#include "tests/unit/core/rings/shared_ring.h"

namespace ppdsm::rings {
namespace {

TEST(Ring, CarriesMessagesInOrder) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    EXPECT_EQ(read_text(reader).first, RingCode::kEmpty);
    EXPECT_EQ(write_text(writer, "one"), RingCode::kDone);
    EXPECT_EQ(write_text(writer, ""), RingCode::kDone);
    EXPECT_EQ(write_text(writer, "three"), RingCode::kDone);
    EXPECT_EQ(read_text(reader), got("one"));
    EXPECT_EQ(read_text(reader), got(""));
    EXPECT_EQ(read_text(reader), got("three"));
    EXPECT_EQ(read_text(reader).first, RingCode::kEmpty);
}

TEST(Ring, JoinsThePiecesOfAMessage) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    const Piece pieces[] = {{"head", 4}, {nullptr, 0}, {"and tail", 8}};
    EXPECT_EQ(writer.try_write(kTextKind, pieces, 3), RingCode::kDone);
    EXPECT_EQ(read_text(reader), got("headand tail"));
}

TEST(Ring, TellsKindAndSequence) {
    const SharedRing ring(kMinCapacityBytes, 1, 500);
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    EXPECT_EQ(writer.try_write(3, "x", 1), RingCode::kDone);
    EXPECT_EQ(writer.try_write(4, "y", 1), RingCode::kDone);
    Frame frame;
    EXPECT_EQ(reader.try_peek(frame), RingCode::kDone);
    EXPECT_EQ(frame.kind, 3);
    EXPECT_EQ(frame.sequence, 500U);
    EXPECT_EQ(reader.try_peek(frame), RingCode::kDone);  // Not taken: it is still there.
    EXPECT_EQ(frame.sequence, 500U);
    reader.take();
    EXPECT_EQ(reader.try_peek(frame), RingCode::kDone);
    EXPECT_EQ(frame.kind, 4);
    EXPECT_EQ(frame.sequence, 501U);
}

TEST(Ring, PushesBackWhenFullAndGoesOnWhenRead) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    const std::string text(100, 'x');
    std::size_t written = 0;
    while (write_text(writer, text) == RingCode::kDone) ++written;
    EXPECT_GE(written, kMinCapacityBytes / 128 - 1);
    EXPECT_EQ(write_text(writer, text), RingCode::kFull);
    EXPECT_EQ(read_text(reader), got(text));
    EXPECT_EQ(write_text(writer, text), RingCode::kDone);
    EXPECT_EQ(write_text(writer, text), RingCode::kFull);
    for (std::size_t i = 0; i < written; ++i) EXPECT_EQ(read_text(reader), got(text));
    EXPECT_EQ(read_text(reader).first, RingCode::kEmpty);
}

TEST(Ring, TakesTheLargestMessageAtAnyPlaceAndNoLargerOne) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    for (std::uint32_t step = 0; step < 300; ++step) {
        const std::string text(writer.max_payload_bytes(), static_cast<char>('a' + step % 26));
        ASSERT_EQ(write_text(writer, text), RingCode::kDone);
        EXPECT_EQ(write_text(writer, ""), RingCode::kFull);
        ASSERT_EQ(read_text(reader), got(text));
        ASSERT_EQ(write_text(writer, ""), RingCode::kDone);  // Shifts the next one's place.
        ASSERT_EQ(read_text(reader), got(""));
    }
    EXPECT_EQ(write_text(writer, std::string(writer.max_payload_bytes() + 1, 'x')),
              RingCode::kTooLarge);
}

TEST(Ring, EqualsAQueueForRandomTraffic) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    std::deque<std::string> queue;
    std::minstd_rand random(1);  // NOLINT(bugprone-random-generator-seed): the same every time.
    for (int step = 0; step < 200'000; ++step) {
        if (random() % 2 == 0) {
            const std::size_t size = random() % (random() % 8 == 0 ? 2000 : 60);
            std::string text(size, static_cast<char>(random()));
            if (write_text(writer, text) == RingCode::kDone) queue.push_back(std::move(text));
        } else if (queue.empty()) {
            ASSERT_EQ(read_text(reader).first, RingCode::kEmpty);
        } else {
            ASSERT_EQ(read_text(reader), got(queue.front()));
            queue.pop_front();
        }
        if (random() % 64 == 0) reader = ring.reader();  // As after an end's death.
        if (random() % 64 == 0) writer = ring.writer();
    }
}

TEST(RingSeal, EndsBehindTheLastMessage) {
    const SharedRing ring(kMinCapacityBytes, 4, 10);
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    EXPECT_EQ(write_text(writer, "ten"), RingCode::kDone);
    EXPECT_EQ(write_text(writer, "eleven"), RingCode::kDone);
    Seal seal;
    ASSERT_EQ(seal_ring(ring.memory(), ring.size_bytes(), 5, seal), RingCode::kDone);
    EXPECT_EQ(seal.next_sequence, 12U);
    EXPECT_EQ(write_text(writer, "twelve"), RingCode::kSealed);
    EXPECT_EQ(writer.next_sequence(), 12U);
    EXPECT_EQ(writer.next_epoch(), 5U);
    EXPECT_EQ(read_text(reader), got("ten"));
    EXPECT_EQ(read_text(reader), got("eleven"));
    EXPECT_EQ(read_text(reader).first, RingCode::kSealed);
    EXPECT_EQ(reader.next_sequence(), 12U);
    EXPECT_EQ(reader.next_epoch(), 5U);
}

TEST(RingSeal, StaysAsItWasSealedFirst) {
    const SharedRing ring;
    Seal seal;
    ASSERT_EQ(seal_ring(ring.memory(), ring.size_bytes(), 5, seal), RingCode::kDone);
    ASSERT_EQ(seal_ring(ring.memory(), ring.size_bytes(), 9, seal), RingCode::kDone);
    EXPECT_EQ(seal.next_epoch, 5U);
    EXPECT_EQ(seal.next_sequence, 1U);
    RingWriter writer = ring.writer();  // Attached after the seal, they see it too.
    RingReader reader = ring.reader();
    EXPECT_EQ(write_text(writer, "late"), RingCode::kSealed);
    EXPECT_EQ(read_text(reader).first, RingCode::kSealed);
}

TEST(RingSeal, FitsIntoAFullRing) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    std::uint64_t written = 0;
    while (write_text(writer, "x") == RingCode::kDone) ++written;
    Seal seal;
    ASSERT_EQ(seal_ring(ring.memory(), ring.size_bytes(), 2, seal), RingCode::kDone);
    EXPECT_EQ(seal.next_sequence, written + 1);
    EXPECT_EQ(write_text(writer, "x"), RingCode::kSealed);
    for (std::uint64_t i = 0; i < written; ++i) ASSERT_EQ(read_text(reader), got("x"));
    EXPECT_EQ(read_text(reader).first, RingCode::kSealed);
}

TEST(RingWait, EndsAtItsDeadline) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    Frame frame;
    EXPECT_EQ(reader.peek(frame, Deadline::after_ns(1'000'000)), RingCode::kTimedOut);
    while (write_text(writer, "x") == RingCode::kDone) {
    }
    EXPECT_EQ(writer.write(kTextKind, "x", 1, Deadline::after_ns(1'000'000)), RingCode::kTimedOut);
    // And a timed-out wait is over for the other end, too: nobody rings for it.
    EXPECT_EQ(ring.control().reader.sleeping.load(), 0U);
    EXPECT_EQ(ring.control().writer.sleeping.load(), 0U);
}

TEST(RingWait, SpinsLessWhereWaitsAreLongAndLearnsThatTheyBecameShort) {
    SpinBound bound;
    const std::uint32_t most = bound.spins();
    for (int i = 0; i < 20; ++i) bound.came_late();
    EXPECT_LT(bound.spins(), most / 10);
    std::uint32_t whole_spins = 0;
    for (int i = 0; i < 100; ++i) {
        if (bound.spins() >= 200) {
            ++whole_spins;
            bound.came_after(200);
        } else {
            bound.came_late();
        }
    }
    EXPECT_GT(whole_spins, 50U);
}

// Two threads, so that the thread sanitizer sees what orders payloads and room.
TEST(RingThreads, PassEveryMessageOnce) {
    const SharedRing ring;
    constexpr std::uint64_t kMessages = 300'000;
    std::thread sender([&] {
        RingWriter writer = ring.writer();
        for (std::uint64_t i = 0; i < kMessages; ++i) {
            const std::uint64_t text[4] = {i, ~i, i * 3, i + 1};
            const auto size = static_cast<std::uint32_t>(8 + i % 4 * 8);
            ASSERT_EQ(writer.write(kTextKind, text, size), RingCode::kDone);
        }
    });
    RingReader reader = ring.reader();
    for (std::uint64_t i = 0; i < kMessages; ++i) {
        Frame frame;
        ASSERT_EQ(reader.peek(frame), RingCode::kDone);
        std::uint64_t text[4] = {i, ~i, i * 3, i + 1};
        const std::uint64_t expected[4] = {i, ~i, i * 3, i + 1};
        ASSERT_EQ(frame.size_bytes, 8 + i % 4 * 8);
        frame.copy_to(text);
        reader.take();
        ASSERT_EQ(std::memcmp(text, expected, sizeof text), 0) << "message " << i;
    }
    sender.join();
}

TEST(RingError, SaysWhatToDo) {
    EXPECT_TRUE(ring_status(RingCode::kDone, "r"));
    EXPECT_EQ(ring_status(RingCode::kFull, "r").error().code(), Code::kOverloaded);
    EXPECT_EQ(ring_status(RingCode::kCorrupt, "r").error().code(), Code::kCorrupt);
    EXPECT_EQ(ring_status(RingCode::kSealed, "r").error().message(), "r: sealed");
}

}  // namespace
}  // namespace ppdsm::rings
