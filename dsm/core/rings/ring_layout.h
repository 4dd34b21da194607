// A ring in memory that two processes share: RingControl, then `capacity_bytes` of frames.
// RINGS.md has the layout and the protocol.
//
// Policy. Positions only grow; a position's place is its remainder by the capacity. What one end
// reads of the other is checked before it is used, and read once: that end may be a program gone
// wild.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dsm/core/rings/doorbell.h"

namespace ppdsm::rings {

inline constexpr std::uint64_t kRingMagic = 0x31474E4952445050;  // "PPDRING1"
inline constexpr std::uint32_t kRingVersion = 1;
inline constexpr std::size_t kLineBytes = 64;
inline constexpr std::uint32_t kMinCapacityBytes = 4096;
inline constexpr std::uint32_t kMaxCapacityBytes = 1U << 30;

/// How an operation on shared memory went. The hot path has no strings; error.h makes Results of
/// it.
enum class RingCode : std::uint8_t {
    kDone,
    kEmpty,     ///< Nothing to read now.
    kFull,      ///< No room now.
    kSealed,    ///< The ring ends here; go on by another path.
    kTooLarge,  ///< Would never fit.
    kCorrupt,   ///< The shared bytes make no sense.
    kTimedOut,
};

/// Before each frame's payload, and where the next one will be.
struct FrameHeader {
    std::atomic<std::uint64_t> word;      ///< FrameWord; 0: not there yet.
    std::atomic<std::uint64_t> sequence;  ///< Valid before `word` is.
};
inline constexpr std::uint32_t kFrameAlignBytes = sizeof(FrameHeader);
static_assert(sizeof(FrameHeader) == 16 && std::atomic<std::uint64_t>::is_always_lock_free);

/// What a frame is. Others than these are the users'; 0 is none.
inline constexpr std::uint16_t kSealKind = 0xFFFF;
inline constexpr std::uint16_t kBlobKind = 0xFFFE;  ///< The payload is a BlobRef.

/// A header's first word: {value : 32, kind : 16, mark : 16}.
class FrameWord {
public:
    explicit FrameWord(std::uint64_t bits) : bits_(bits) {}
    FrameWord(std::uint16_t kind, std::uint32_t value)
        : bits_(value | std::uint64_t{kind} << 32 | kMark << 48) {}

    [[nodiscard]] std::uint64_t bits() const { return bits_; }
    [[nodiscard]] bool is_sound() const { return bits_ >> 48 == kMark && kind() != 0; }
    [[nodiscard]] std::uint16_t kind() const { return static_cast<std::uint16_t>(bits_ >> 32); }
    /// A seal's: the epoch of the path that follows. Any other frame's: the size of its payload.
    [[nodiscard]] std::uint32_t value() const { return static_cast<std::uint32_t>(bits_); }

private:
    static constexpr std::uint64_t kMark = 0xA7D5;
    std::uint64_t bits_;
};

struct RingControl {
    // Written once, when the ring is made.
    alignas(kLineBytes) std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t capacity_bytes;  ///< A power of two.
    std::uint32_t epoch;           ///< Of the path that this ring is.
    std::uint32_t reserved;        ///< 0.
    // Written by the reader.
    alignas(kLineBytes) std::atomic<std::uint64_t> head;  ///< Where the next frame to take begins.
    alignas(kLineBytes) Doorbell reader;                  ///< The reader sleeps, the writer rings.
    alignas(kLineBytes) Doorbell writer;                  ///< The other way round.
};
static_assert(sizeof(RingControl) == 4 * kLineBytes);
static_assert(offsetof(RingControl, head) == 64 && offsetof(RingControl, reader) == 128 &&
              offsetof(RingControl, writer) == 192);

[[nodiscard]] constexpr std::size_t ring_bytes(std::uint32_t capacity_bytes) {
    return sizeof(RingControl) + capacity_bytes;
}

/// A ring's memory as this process sees it; what must not change meanwhile is kept here.
class RingView {
public:
    RingView() = default;

    /// `memory` is aligned to a cache line, `size_bytes` of it are mapped; it stays the caller's,
    /// and outlives this. kCorrupt: no ring of this version, or a larger one.
    RingCode attach(void* memory, std::size_t size_bytes) {
        if (size_bytes < sizeof(RingControl)) return RingCode::kCorrupt;
        auto* const control = static_cast<RingControl*>(memory);
        const std::uint32_t capacity =
            reinterpret_cast<const volatile std::uint32_t&>(control->capacity_bytes);
        if (control->magic != kRingMagic || control->version != kRingVersion ||
            capacity < kMinCapacityBytes || capacity > kMaxCapacityBytes ||
            (capacity & (capacity - 1)) != 0 || capacity > size_bytes - sizeof(RingControl)) {
            return RingCode::kCorrupt;
        }
        control_ = control;
        bytes_ = static_cast<std::uint8_t*>(memory) + sizeof(RingControl);
        capacity_ = capacity;
        epoch_ = control->epoch;
        return RingCode::kDone;
    }

    [[nodiscard]] RingControl& control() const { return *control_; }
    [[nodiscard]] std::uint32_t epoch() const { return epoch_; }
    [[nodiscard]] std::uint32_t capacity_bytes() const { return capacity_; }
    /// Of one payload: beside its frame there must be room for the next header.
    [[nodiscard]] std::uint32_t max_payload_bytes() const {
        return capacity_ - 2 * static_cast<std::uint32_t>(sizeof(FrameHeader));
    }
    [[nodiscard]] std::uint32_t place(std::uint64_t position) const {
        return static_cast<std::uint32_t>(position) & (capacity_ - 1);
    }
    [[nodiscard]] std::uint8_t* at(std::uint64_t position) const {
        return bytes_ + place(position);
    }
    /// Headers are aligned to their size, so that none is cut in two by the end.
    [[nodiscard]] FrameHeader& header(std::uint64_t position) const {
        return *reinterpret_cast<FrameHeader*>(at(position));
    }
    [[nodiscard]] std::uint64_t head() const {
        return control_->head.load(std::memory_order_seq_cst);
    }
    [[nodiscard]] static bool is_aligned(std::uint64_t position) {
        return position % kFrameAlignBytes == 0;
    }
    /// With its header, up to the next one.
    [[nodiscard]] static std::uint32_t frame_bytes(std::uint32_t payload_bytes) {
        constexpr std::uint32_t kHeaderBytes = sizeof(FrameHeader);
        return (kHeaderBytes + payload_bytes + kFrameAlignBytes - 1) & ~(kFrameAlignBytes - 1);
    }

private:
    RingControl* control_ = nullptr;
    std::uint8_t* bytes_ = nullptr;
    std::uint32_t capacity_ = 0;
    std::uint32_t epoch_ = 0;
};

/// Makes an empty ring of zeroed memory of at least ring_bytes(capacity_bytes), before anybody else
/// sees it. False: the capacity is no power of two within the bounds.
inline bool format_ring(void* memory, std::uint32_t capacity_bytes, std::uint32_t epoch,
                        std::uint64_t first_sequence) {
    if (capacity_bytes < kMinCapacityBytes || capacity_bytes > kMaxCapacityBytes ||
        (capacity_bytes & (capacity_bytes - 1)) != 0) {
        return false;
    }
    auto* const control = static_cast<RingControl*>(memory);
    control->magic = kRingMagic;
    control->version = kRingVersion;
    control->capacity_bytes = capacity_bytes;
    control->epoch = epoch;
    auto* const first = reinterpret_cast<FrameHeader*>(control + 1);
    first->sequence.store(first_sequence, std::memory_order_relaxed);
    return true;
}

}  // namespace ppdsm::rings
