// Goal: large payloads reach the reader whole while the ring carries references only; slots come
// back, in any order; a reference that names what is not there is an error. Method: both ends in
// one thread, then two processes that check every byte.
#include "dsm/core/rings/blob_area.h"

#include <gtest/gtest.h>

#include <vector>

#include "dsm/core/rings/seal.h"
#include "tests/unit/core/rings/process.h"
#include "tests/unit/core/rings/shared_ring.h"

namespace ppdsm::rings {
namespace {

constexpr std::uint32_t kSlots = 8;

class Blobs {
public:
    Blobs() : memory_(blob_area_bytes(kSlots)) {
        EXPECT_TRUE(format_blob_area(memory_.get(), kSlots));
    }
    [[nodiscard]] BlobControl& control() const { return *static_cast<BlobControl*>(memory_.get()); }
    [[nodiscard]] std::size_t size_bytes() const { return memory_.size_bytes(); }
    template <class End>
    [[nodiscard]] End end() const {
        End end;
        EXPECT_EQ(end.attach(memory_.get(), memory_.size_bytes()), RingCode::kDone);
        return end;
    }

private:
    SharedMemory memory_;
};

RingCode send_ref(RingWriter& ring, const BlobRef& ref) {
    return ring.try_write(kBlobKind, &ref, sizeof ref);
}

/// Opens and takes the next one.
RingCode receive(RingReader& ring, const BlobReader& blobs, Blob& blob) {
    Frame frame;
    RingCode code = ring.try_peek(frame);
    if (code != RingCode::kDone) return code;
    code = blobs.open(frame, blob);
    ring.take();
    return code;
}

TEST(BlobArea, HandsPayloadsOverWithoutCopyingThem) {
    const SharedRing ring;
    const Blobs area;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    auto blob_writer = area.end<BlobWriter>();
    const auto blob_reader = area.end<BlobReader>();
    Blob sent;
    ASSERT_EQ(blob_writer.try_allocate(200'000, sent), RingCode::kDone);
    std::memset(sent.bytes, 0x5A, 200'000);
    ASSERT_EQ(BlobWriter::write(writer, sent), RingCode::kDone);
    Blob received;
    ASSERT_EQ(receive(reader, blob_reader, received), RingCode::kDone);
    EXPECT_EQ(received.bytes, sent.bytes);
    EXPECT_EQ(received.ref.size_bytes, 200'000U);
    EXPECT_EQ(received.bytes[199'999], 0x5A);
    blob_reader.release(received);
}

TEST(BlobArea, GivesSlotsBackInAnyOrder) {
    const Blobs area;
    auto writer = area.end<BlobWriter>();
    const auto reader = area.end<BlobReader>();
    Blob blobs[4];
    for (Blob& blob : blobs) ASSERT_EQ(writer.try_allocate(2 * kSlotBytes, blob), RingCode::kDone);
    Blob more;
    EXPECT_EQ(writer.try_allocate(1, more), RingCode::kFull);
    reader.release(blobs[0]);
    reader.release(blobs[2]);
    // Four slots are free, but no three neighbours are.
    EXPECT_EQ(writer.try_allocate(2 * kSlotBytes + 1, more), RingCode::kFull);
    reader.release(blobs[1]);
    ASSERT_EQ(writer.try_allocate(5 * kSlotBytes + 1, more), RingCode::kDone);
    EXPECT_EQ(more.ref.first_slot, 0U);
    EXPECT_EQ(writer.try_allocate(kSlots * kSlotBytes + 1, more), RingCode::kTooLarge);
}

TEST(BlobArea, KeepsWhatASealedRingDidNotTake) {
    const SharedRing ring;
    const Blobs area;
    RingWriter writer = ring.writer();
    auto blobs = area.end<BlobWriter>();
    Seal seal;
    ASSERT_EQ(seal_ring(ring.memory(), ring.size_bytes(), 2, seal), RingCode::kDone);
    Blob blob;
    ASSERT_EQ(blobs.try_allocate(kSlots * kSlotBytes, blob), RingCode::kDone);
    EXPECT_EQ(BlobWriter::write(writer, blob), RingCode::kSealed);
    blobs.abandon(blob);
    EXPECT_EQ(blobs.try_allocate(kSlots * kSlotBytes, blob), RingCode::kDone);
}

TEST(BlobArea, RefusesReferencesToWhatIsNotThere) {
    const SharedRing ring;
    const Blobs area;
    RingWriter writer = ring.writer();
    RingReader reader = ring.reader();
    const auto blobs = area.end<BlobReader>();
    const BlobRef wrong[] = {{kSlots, 0, 1},
                             {~0U, 0, 1},
                             {0, 0, kSlots * kSlotBytes + 1},
                             {kSlots - 1, 0, kSlotBytes + 1},
                             {0, 0, ~std::uint64_t{0}},
                             {1, 0, ~std::uint64_t{0} - kSlotBytes},
                             {0, 1, 1}};
    Blob blob;
    for (const BlobRef& ref : wrong) {
        ASSERT_EQ(send_ref(writer, ref), RingCode::kDone);
        EXPECT_EQ(receive(reader, blobs, blob), RingCode::kCorrupt);
    }
    ASSERT_EQ(writer.try_write(kBlobKind, "short", 5), RingCode::kDone);
    EXPECT_EQ(receive(reader, blobs, blob), RingCode::kCorrupt);
    ASSERT_EQ(send_ref(writer, {kSlots - 1, 0, kSlotBytes}), RingCode::kDone);
    EXPECT_EQ(receive(reader, blobs, blob), RingCode::kDone);
}

TEST(BlobArea, RefusesAnAreaThatIsNone) {
    const Blobs area;
    BlobReader reader;
    EXPECT_EQ(reader.attach(&area.control(), area.size_bytes() - 1), RingCode::kCorrupt);
    for (const std::uint32_t count : {0U, kSlots + 1, kMaxSlots + 1, ~0U}) {
        area.control().slot_count = count;
        EXPECT_EQ(reader.attach(&area.control(), area.size_bytes()), RingCode::kCorrupt);
    }
    area.control().slot_count = kSlots;
    area.control().magic ^= 1;
    EXPECT_EQ(reader.attach(&area.control(), area.size_bytes()), RingCode::kCorrupt);
}

std::size_t size_of(int i) { return kBlobFromBytes + static_cast<std::size_t>(i) * 7919 % 300'000; }

TEST(BlobArea, PassesManyBetweenProcessesThatWaitForEachOther) {
    const SharedRing ring;
    const Blobs area;
    constexpr int kCount = 300;
    Process sender([&] {
        RingWriter writer = ring.writer();
        auto blobs = area.end<BlobWriter>();
        for (int i = 0; i < kCount; ++i) {
            Blob blob;
            if (blobs.allocate(size_of(i), blob) != RingCode::kDone) return 1;
            std::memset(blob.bytes, i, size_of(i));
            if (BlobWriter::write(writer, blob) != RingCode::kDone) return 2;
        }
        return 0;
    });
    RingReader reader = ring.reader();
    const auto blobs = area.end<BlobReader>();
    for (int i = 0; i < kCount; ++i) {
        Frame frame;
        ASSERT_EQ(reader.peek(frame), RingCode::kDone);
        Blob blob;
        ASSERT_EQ(blobs.open(frame, blob), RingCode::kDone);
        ASSERT_EQ(blob.ref.size_bytes, size_of(i));
        const std::vector<std::uint8_t> expected(size_of(i), static_cast<std::uint8_t>(i));
        ASSERT_EQ(std::memcmp(blob.bytes, expected.data(), expected.size()), 0) << i;
        reader.take();
        blobs.release(blob);
    }
    EXPECT_EQ(sender.wait(), 0);
}

}  // namespace
}  // namespace ppdsm::rings
