// Large payloads are not copied through a ring: they lie in a blob area beside it, and the ring
// carries a reference. A blob has one owner at a time: the writer from allocate() until its
// reference is in the ring, then the reader until release(). An area serves one ring, and ends with
// it.
//
// Policy. Slots of one size, a blob in as many neighbours as it needs, the lowest that are free: so
// little traffic stays in few, warm pages. A reference is checked before it is followed; who writes
// into what is not his damages his own messages only. The writer's and the reader's headers are
// compiled into programs: no exceptions, no part of the C++ library that is compiled.
#pragma once

#include "dsm/core/rings/ring_reader.h"
#include "dsm/core/rings/ring_writer.h"

namespace ppdsm::rings {

inline constexpr std::uint64_t kBlobMagic = 0x31424F4C42445050;  // "PPDBLOB1"
inline constexpr std::uint32_t kBlobVersion = 1;
inline constexpr std::size_t kSlotBytes = 64 << 10;
inline constexpr std::uint32_t kMaxSlots = 1 << 16;
/// Payloads from here on go by reference.
inline constexpr std::size_t kBlobFromBytes = kSlotBytes;

/// What the ring carries, as the payload of a frame of kBlobKind.
struct BlobRef {
    std::uint32_t first_slot;
    std::uint32_t reserved;  ///< 0.
    std::uint64_t size_bytes;
};
static_assert(sizeof(BlobRef) == 16);

/// Followed by one word a slot (0: free), then, at the next whole 4096, the slots.
struct BlobControl {
    alignas(kLineBytes) std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t slot_count;
    alignas(kLineBytes) Doorbell writer;  ///< The writer waits for slots, the reader rings.
};
static_assert(sizeof(BlobControl) == 2 * kLineBytes);

[[nodiscard]] constexpr std::size_t blob_slots_offset(std::uint32_t slot_count) {
    return (sizeof(BlobControl) + std::size_t{4} * slot_count + 4095) / 4096 * 4096;
}
[[nodiscard]] constexpr std::size_t blob_area_bytes(std::uint32_t slot_count) {
    return blob_slots_offset(slot_count) + std::size_t{slot_count} * kSlotBytes;
}

/// Bytes in the area, and what names them to the other end.
struct Blob {
    BlobRef ref{};
    std::uint8_t* bytes = nullptr;
};

/// The area as this process sees it.
class BlobView {
public:
    BlobView() = default;

    /// As RingView::attach; `memory` is aligned to a cache line.
    RingCode attach(void* memory, std::size_t size_bytes) {
        auto* const control = static_cast<BlobControl*>(memory);
        if (size_bytes < sizeof(BlobControl)) return RingCode::kCorrupt;
        const std::uint32_t count =
            reinterpret_cast<const volatile std::uint32_t&>(control->slot_count);
        if (control->magic != kBlobMagic || control->version != kBlobVersion || count == 0 ||
            count > kMaxSlots || blob_area_bytes(count) > size_bytes) {
            return RingCode::kCorrupt;
        }
        control_ = control;
        slot_count_ = count;
        slots_ = static_cast<std::uint8_t*>(memory) + blob_slots_offset(count);
        return RingCode::kDone;
    }

    [[nodiscard]] BlobControl& control() const { return *control_; }
    [[nodiscard]] std::uint32_t slot_count() const { return slot_count_; }
    [[nodiscard]] std::atomic<std::uint32_t>& is_taken(std::uint32_t number) const {
        return reinterpret_cast<std::atomic<std::uint32_t>*>(control_ + 1)[number];
    }
    [[nodiscard]] std::uint8_t* slot(std::uint32_t number) const {
        return slots_ + std::size_t{number} * kSlotBytes;
    }
    /// A blob of 0 bytes has a slot, too.
    [[nodiscard]] static std::uint64_t slots_for(std::uint64_t size_bytes) {
        return size_bytes == 0 ? 1 : (size_bytes - 1) / kSlotBytes + 1;
    }
    [[nodiscard]] bool is_within(const BlobRef& ref) const {
        return ref.first_slot < slot_count_ && ref.reserved == 0 &&
               slots_for(ref.size_bytes) <= slot_count_ - ref.first_slot;
    }
    /// Of a reference that is within.
    void free(const BlobRef& ref) const {
        const auto count = static_cast<std::uint32_t>(slots_for(ref.size_bytes));
        for (std::uint32_t i = 0; i < count; ++i) {
            is_taken(ref.first_slot + i).store(0, std::memory_order_seq_cst);
        }
    }

private:
    BlobControl* control_ = nullptr;
    std::uint8_t* slots_ = nullptr;
    std::uint32_t slot_count_ = 0;
};

/// Makes an empty area of zeroed memory of at least blob_area_bytes(slot_count), before anybody
/// else sees it. False: too many slots, or none.
inline bool format_blob_area(void* memory, std::uint32_t slot_count) {
    if (slot_count == 0 || slot_count > kMaxSlots) return false;
    auto* const control = static_cast<BlobControl*>(memory);
    control->magic = kBlobMagic;
    control->version = kBlobVersion;
    control->slot_count = slot_count;
    return true;
}

/// The end that fills blobs. One thread at a time.
class BlobWriter {
public:
    RingCode attach(void* memory, std::size_t size_bytes) {
        return area_.attach(memory, size_bytes);
    }

    /// kDone: `blob` is the caller's until write() or abandon(). Else kFull, kTooLarge.
    RingCode try_allocate(std::uint64_t size_bytes, Blob& blob) {
        const std::uint64_t wanted = BlobView::slots_for(size_bytes);
        if (wanted > area_.slot_count()) return RingCode::kTooLarge;
        std::uint32_t first = 0;
        for (std::uint32_t slot = 0; slot < area_.slot_count(); ++slot) {
            if (area_.is_taken(slot).load(std::memory_order_seq_cst) != 0) {
                first = slot + 1;
            } else if (slot + 1 - first == wanted) {
                for (std::uint32_t i = first; i <= slot; ++i) {
                    area_.is_taken(i).store(1, std::memory_order_relaxed);
                }
                blob = {{first, 0, size_bytes}, area_.slot(first)};
                return RingCode::kDone;
            }
        }
        return RingCode::kFull;
    }

    /// Waits for room; kTimedOut instead of kFull.
    RingCode allocate(std::uint64_t size_bytes, Blob& blob,
                      const Deadline& deadline = Deadline::never()) {
        RingCode code = try_allocate(size_bytes, blob);
        if (code != RingCode::kFull) return code;
        const bool came = await(area_.control().writer, spin_, deadline, [&] {
            code = try_allocate(size_bytes, blob);
            return code != RingCode::kFull;
        });
        return came ? code : RingCode::kTimedOut;
    }

    /// Hands it to the reader. Unless kDone it is still the caller's: to send otherwise, or
    /// abandon.
    static RingCode write(RingWriter& ring, const Blob& blob,
                          const Deadline& deadline = Deadline::never()) {
        return ring.write(kBlobKind, &blob.ref, sizeof blob.ref, deadline);
    }

    void abandon(const Blob& blob) const { area_.free(blob.ref); }

private:
    BlobView area_;
    SpinBound spin_;
};

/// The end that uses them up. One thread at a time.
class BlobReader {
public:
    RingCode attach(void* memory, std::size_t size_bytes) {
        return area_.attach(memory, size_bytes);
    }

    /// Of a frame of kBlobKind. kDone: `blob` is the caller's until release(), whatever becomes of
    /// the frame. Else kCorrupt.
    RingCode open(const Frame& frame, Blob& blob) const {
        if (frame.kind != kBlobKind || frame.size_bytes != sizeof(BlobRef)) {
            return RingCode::kCorrupt;
        }
        BlobRef ref{};
        frame.copy_to(&ref);
        if (!area_.is_within(ref)) return RingCode::kCorrupt;
        blob = {ref, area_.slot(ref.first_slot)};
        return RingCode::kDone;
    }

    void release(const Blob& blob) const {
        area_.free(blob.ref);
        area_.control().writer.ring();
    }

private:
    BlobView area_;
};

}  // namespace ppdsm::rings
