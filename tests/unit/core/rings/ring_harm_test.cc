// Goal: an end that scribbles over the shared memory gets an error at the other, never a crash, an
// endless loop or an access outside of the ring. Method: random damage of a ring in use, its last
// byte before a page that must not be touched; the sanitizers look on. A failure is replayed by its
// seed.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <random>
#include <vector>

#include "dsm/core/rings/seal.h"
#include "tests/unit/core/rings/shared_ring.h"

namespace ppdsm::rings {
namespace {

using Random = std::minstd_rand;

/// A ring's memory that ends where memory ends.
class FencedRing {
public:
    FencedRing() {
        const auto page = static_cast<std::size_t>(::getpagesize());
        mapped_bytes_ = 3 * page + ring_bytes(kMinCapacityBytes) / page * page;
        mapped_ = ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped_ == MAP_FAILED) std::abort();
        auto* const end = static_cast<std::uint8_t*>(mapped_) + mapped_bytes_ - page;
        if (::mprotect(end, page, PROT_NONE) != 0) std::abort();
        memory_ = end - ring_bytes(kMinCapacityBytes);
        EXPECT_TRUE(format_ring(memory_, kMinCapacityBytes, 1, 1));
    }
    FencedRing(const FencedRing&) = delete;
    FencedRing& operator=(const FencedRing&) = delete;
    ~FencedRing() { ::munmap(mapped_, mapped_bytes_); }

    [[nodiscard]] std::uint8_t* memory() const { return memory_; }
    static constexpr std::size_t kSizeBytes = ring_bytes(kMinCapacityBytes);

private:
    std::size_t mapped_bytes_ = 0;
    void* mapped_ = nullptr;
    std::uint8_t* memory_ = nullptr;
};

std::uint32_t any_word(Random& random) { return static_cast<std::uint32_t>(random()); }

std::uint64_t any_value(Random& random) {
    const std::uint64_t whole = std::uint64_t{random()} << 33 ^ random();
    switch (random() % 4) {
        case 0: return whole;
        case 1: return whole % 8192;
        case 2: return ~std::uint64_t{0} - whole % 64;
        default:
            return FrameWord(static_cast<std::uint16_t>(random() % 3), any_word(random) % 8192)
                .bits();
    }
}

void scribble(Random& random, std::uint8_t* memory) {
    for (std::uint32_t words = 1 + any_word(random) % 8; words > 0; --words) {
        // Whole words mostly, since that is where the fields are; the first four lines often.
        const std::size_t within = random() % 2 == 0 ? sizeof(RingControl) : FencedRing::kSizeBytes;
        const std::uint64_t value = any_value(random);
        std::memcpy(memory + random() % (within / 8) * 8, &value, 8);
    }
}

/// One thing that an end or a mover does. The code is what it is; that it comes back is the point.
RingCode do_something(Random& random, const FencedRing& ring, RingWriter& writer,
                      RingReader& reader) {
    static const std::vector<std::uint8_t> kPayload(kMinCapacityBytes, 0xEE);
    std::uint8_t into[kMinCapacityBytes];
    switch (random() % 8) {
        case 0: {
            Seal seal;
            return seal_ring(ring.memory(), FencedRing::kSizeBytes, any_word(random), seal);
        }
        case 1:
        case 2:
        case 3:
            return writer.try_write(kTextKind, kPayload.data(),
                                    any_word(random) % kMinCapacityBytes);
        default: {
            Frame frame;
            const RingCode code = reader.try_peek(frame);
            if (code == RingCode::kDone) {
                EXPECT_LE(frame.size_bytes, sizeof into);
                frame.copy_to(into);
                reader.take();
            }
            return code;
        }
    }
}

TEST(RingHarm, IsAnErrorAndNeverMore) {
    int corrupt = 0;
    for (unsigned seed = 1; seed <= 3000 && !::testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Random random(seed);
        const FencedRing ring;
        RingWriter writer;
        RingReader reader;
        ASSERT_EQ(writer.attach(ring.memory(), FencedRing::kSizeBytes), RingCode::kDone);
        ASSERT_EQ(reader.attach(ring.memory(), FencedRing::kSizeBytes), RingCode::kDone);
        for (int step = 0; step < 100; ++step) {
            if (random() % 8 == 0) scribble(random, ring.memory());
            if (do_something(random, ring, writer, reader) == RingCode::kCorrupt) ++corrupt;
            if (random() % 16 == 0) {
                // An end that refuses the ring does not use it; the other one goes on.
                RingWriter fresh_writer;
                RingReader fresh_reader;
                if (fresh_writer.attach(ring.memory(), FencedRing::kSizeBytes) == RingCode::kDone) {
                    writer = fresh_writer;
                }
                if (fresh_reader.attach(ring.memory(), FencedRing::kSizeBytes) == RingCode::kDone) {
                    reader = fresh_reader;
                }
            }
        }
    }
    EXPECT_GT(corrupt, 1000);
}

TEST(RingHarm, RefusesARingThatIsNone) {
    const SharedRing ring;
    RingReader reader;
    const auto attach = [&] { return reader.attach(ring.memory(), ring.size_bytes()); };
    EXPECT_EQ(attach(), RingCode::kDone);
    EXPECT_EQ(reader.attach(ring.memory(), ring.size_bytes() - 1), RingCode::kCorrupt);
    EXPECT_EQ(reader.attach(ring.memory(), 10), RingCode::kCorrupt);
    RingControl& control = ring.control();
    for (const std::uint32_t capacity : {0U, 1U, 4095U, 8192U, 1U << 31, ~0U}) {
        control.capacity_bytes = capacity;
        EXPECT_EQ(attach(), RingCode::kCorrupt) << capacity;
    }
    control.capacity_bytes = kMinCapacityBytes;
    ++control.version;
    EXPECT_EQ(attach(), RingCode::kCorrupt);
    control.version = kRingVersion;
    control.magic ^= 1;
    EXPECT_EQ(attach(), RingCode::kCorrupt);
    control.magic ^= 1;
    control.head.store(8);
    EXPECT_EQ(attach(), RingCode::kCorrupt);
}

TEST(RingHarm, TellsAFrameOutOfTurn) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    ASSERT_EQ(write_text(writer, "one"), RingCode::kDone);
    auto* const header = reinterpret_cast<FrameHeader*>(&ring.control() + 1);
    header->sequence.store(2);
    EXPECT_EQ(read_text(reader).first, RingCode::kCorrupt);
}

TEST(RingHarm, TellsAHeadThatRunsAhead) {
    const SharedRing ring;
    RingWriter writer = ring.writer();
    ring.control().head.store(1 << 20);
    RingCode code = RingCode::kDone;
    while (code == RingCode::kDone) code = write_text(writer, "x");
    EXPECT_EQ(code, RingCode::kCorrupt);
}

}  // namespace
}  // namespace ppdsm::rings
