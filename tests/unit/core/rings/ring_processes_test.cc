// Goal: between two processes that are killed at any moment nothing is lost, repeated or torn: a
// reader gets exactly what was published, and what it had not taken is there for its successor.
// Method: real processes, real SIGKILLs at random moments; the parent seals what a dead one left,
// as the daemon does.
#include <gtest/gtest.h>
#include <sched.h>

#include <random>

#include "dsm/core/rings/seal.h"
#include "tests/unit/core/rings/process.h"
#include "tests/unit/core/rings/shared_ring.h"

namespace ppdsm::rings {
namespace {

/// Message `i` of a stream: its size and every byte follow from `i`.
std::uint32_t size_of(std::uint64_t i) { return static_cast<std::uint32_t>(8 + i * 7919 % 900); }

void fill(std::uint64_t i, std::uint8_t* bytes) {
    std::memcpy(bytes, &i, 8);
    std::memset(bytes + 8, static_cast<int>(i & 0xFF), size_of(i) - 8);
}

RingCode write_message(RingWriter& writer) {
    std::uint8_t bytes[1024];
    const std::uint64_t i = writer.next_sequence();
    fill(i, bytes);
    return writer.write(kTextKind, bytes, size_of(i));
}

bool is_message(const Frame& frame, std::uint64_t i) {
    if (frame.sequence != i || frame.size_bytes != size_of(i)) return false;
    std::uint8_t expected[1024];
    std::uint8_t bytes[1024];
    fill(i, expected);
    frame.copy_to(bytes);
    return std::memcmp(bytes, expected, frame.size_bytes) == 0;
}

/// Reads until the ring's end; the sequence number after the last one, 0 when something was wrong.
std::uint64_t read_to_the_seal(RingReader& reader) {
    while (true) {
        Frame frame;
        const RingCode code = reader.peek(frame);
        if (code == RingCode::kSealed) return reader.next_sequence();
        if (code != RingCode::kDone || !is_message(frame, reader.next_sequence())) return 0;
        reader.take();
    }
}

int write_for_ever(const SharedRing& ring) {
    RingWriter writer = ring.writer();
    while (write_message(writer) == RingCode::kDone) {
    }
    return 0;
}

/// Waits until the reader has got so far.
void await_head(const SharedRing& ring, std::uint64_t position) {
    while (ring.control().head.load() < position) ::sched_yield();
}

TEST(RingProcesses, ExchangeEveryMessage) {
    const SharedRing there;
    const SharedRing back;
    constexpr std::uint64_t kRounds = 20'000;
    Process echo([&] {
        RingReader reader = there.reader();
        RingWriter writer = back.writer();
        for (std::uint64_t i = 1; i <= kRounds; ++i) {
            Frame frame;
            if (reader.peek(frame) != RingCode::kDone || !is_message(frame, i)) return 1;
            reader.take();
            if (write_message(writer) != RingCode::kDone) return 2;
        }
        return 0;
    });
    RingWriter writer = there.writer();
    RingReader reader = back.reader();
    for (std::uint64_t i = 1; i <= kRounds; ++i) {
        ASSERT_EQ(write_message(writer), RingCode::kDone);
        Frame frame;
        ASSERT_EQ(reader.peek(frame), RingCode::kDone);
        ASSERT_TRUE(is_message(frame, i)) << i;
        reader.take();
    }
    EXPECT_EQ(echo.wait(), 0);
}

TEST(RingProcesses, AKilledWriterHasWrittenWholeMessages) {
    std::mt19937 random(1);  // NOLINT(bugprone-random-generator-seed): the same every time.
    for (int round = 0; round < 30; ++round) {
        const SharedRing ring;
        Process writer([&] { return write_for_ever(ring); });
        Process reader([&] {
            RingReader end = ring.reader();
            const std::uint64_t read = read_to_the_seal(end);
            // The exit code says that the ring's end and ours agree.
            Seal seal;
            if (seal_ring(ring.memory(), ring.size_bytes(), 9, seal) != RingCode::kDone) return 1;
            return read == seal.next_sequence && seal.next_epoch == 2 ? 0 : 2;
        });
        await_head(ring, 50'000 + random() % 5000);
        writer.kill();
        Seal seal;
        ASSERT_EQ(seal_ring(ring.memory(), ring.size_bytes(), 2, seal), RingCode::kDone);
        ASSERT_EQ(reader.wait(), 0) << "round " << round;
    }
}

TEST(RingProcesses, AKilledReadersSuccessorGoesOnWhereItStopped) {
    std::mt19937 random(2);  // NOLINT(bugprone-random-generator-seed): the same every time.
    const SharedRing ring;
    Process writer([&] { return write_for_ever(ring); });
    std::uint64_t position = 0;
    for (int round = 0; round < 30; ++round) {
        Process reader([&] {
            RingReader end = ring.reader();
            return read_to_the_seal(end) != 0 ? 0 : 1;
        });
        position += 20'000 + random() % 5000;
        await_head(ring, position);
        reader.kill();
    }
    // The last one finds everything that was not taken, and the writer leaves at the seal.
    Seal seal;
    ASSERT_EQ(seal_ring(ring.memory(), ring.size_bytes(), 2, seal), RingCode::kDone);
    EXPECT_EQ(writer.wait(), 0);
    RingReader last = ring.reader();
    EXPECT_EQ(read_to_the_seal(last), seal.next_sequence);
}

TEST(RingProcesses, ASealWakesAWriterThatWaitsForRoomAndAReaderThatWaitsForMessages) {
    for (int round = 0; round < 20; ++round) {
        const SharedRing full;
        const SharedRing empty;
        Process writer([&] { return write_for_ever(full); });
        Process reader([&] {
            RingReader end = empty.reader();
            return read_to_the_seal(end) == 1 ? 0 : 1;
        });
        if (round % 2 == 0) {  // Asleep both; else at some moment on the way there.
            while (full.control().writer.sleeping.load() == 0 ||
                   empty.control().reader.sleeping.load() == 0) {
                ::sched_yield();
            }
        }
        Seal seal;
        ASSERT_EQ(seal_ring(full.memory(), full.size_bytes(), 2, seal), RingCode::kDone);
        ASSERT_EQ(seal_ring(empty.memory(), empty.size_bytes(), 2, seal), RingCode::kDone);
        EXPECT_EQ(writer.wait(), 0);
        EXPECT_EQ(reader.wait(), 0);
    }
}

/// Until it sleeps at that bell. Then the word as one leaves it who dies while ringing, before the
/// system call.
void fall_silent_once_asleep(Doorbell& bell, const Process& sleeper) {
    while (bell.sleeping.load() == 0 || !sleeper.is_asleep()) ::sched_yield();
    bell.sleeping.store(0);
}

TEST(RingProcesses, ASleeperIsWokenByTheSuccessorOfOneThatDiedWhileRinging) {
    const SharedRing full;
    Process writer([&] { return write_for_ever(full); });
    fall_silent_once_asleep(full.control().writer, writer);
    RingReader reader = full.reader();
    for (int i = 0; i < 100; ++i) {  // More than were in it, so it has gone on.
        Frame frame;
        ASSERT_EQ(reader.peek(frame), RingCode::kDone);
        reader.take();
    }
    const SharedRing empty;
    Process sleeper([&] {
        RingReader end = empty.reader();
        return read_to_the_seal(end) == 2 ? 0 : 1;
    });
    fall_silent_once_asleep(empty.control().reader, sleeper);
    RingWriter successor = empty.writer();
    ASSERT_EQ(write_message(successor), RingCode::kDone);
    fall_silent_once_asleep(empty.control().reader, sleeper);
    Seal seal;
    ASSERT_EQ(seal_ring(empty.memory(), empty.size_bytes(), 2, seal), RingCode::kDone);
    EXPECT_EQ(sleeper.wait(), 0);
}

TEST(RingProcesses, ARunningWriterIsSealedBetweenTwoMessages) {
    for (int round = 0; round < 200; ++round) {
        const SharedRing ring;  // Nobody reads it meanwhile, as if the reader were frozen.
        Process writer([&] {
            RingWriter end = ring.writer();
            RingCode code = RingCode::kDone;
            while (code == RingCode::kDone) code = write_message(end);
            Seal seal;  // Sealed already: this only looks.
            if (seal_ring(ring.memory(), ring.size_bytes(), 9, seal) != RingCode::kDone) return 1;
            return code == RingCode::kSealed && end.next_sequence() == seal.next_sequence ? 0 : 2;
        });
        Seal seal;
        ASSERT_EQ(seal_ring(ring.memory(), ring.size_bytes(), 2, seal), RingCode::kDone);
        ASSERT_EQ(writer.wait(), 0);
        RingReader reader = ring.reader();
        ASSERT_EQ(read_to_the_seal(reader), seal.next_sequence);
    }
}

}  // namespace
}  // namespace ppdsm::rings
