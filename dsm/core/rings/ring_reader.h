// The reading end of a ring: look at the next frame, use it where it lies or copy it out, then take
// it. A reader that dies in between finds it again.
//
// Header-only, no exceptions, no part of the C++ library that is compiled.
#pragma once

#include <cstring>

#include "dsm/core/rings/ring_layout.h"

namespace ppdsm::rings {

/// A frame in the ring, valid until it is taken. Its payload may lie in two parts, and a writer
/// gone wild may change it while one looks: what must not change is copied out first.
struct Frame {
    std::uint16_t kind = 0;
    std::uint32_t size_bytes = 0;
    std::uint64_t sequence = 0;
    const std::uint8_t* first = nullptr;
    std::uint32_t first_bytes = 0;
    const std::uint8_t* rest = nullptr;  ///< size_bytes - first_bytes of it.

    /// Into room for size_bytes.
    void copy_to(void* into) const {
        if (first_bytes > 0) std::memcpy(into, first, first_bytes);
        if (size_bytes > first_bytes) [[unlikely]] {
            std::memcpy(static_cast<std::uint8_t*>(into) + first_bytes, rest,
                        size_bytes - first_bytes);
        }
    }
};

/// One thread at a time.
class RingReader {
public:
    /// As RingView::attach; goes on with the first frame that was not taken.
    RingCode attach(void* memory, std::size_t size_bytes) {
        if (const RingCode code = ring_.attach(memory, size_bytes); code != RingCode::kDone) {
            return code;
        }
        head_ = ring_.head();
        if (!RingView::is_aligned(head_)) return RingCode::kCorrupt;
        sequence_ = ring_.header(head_).sequence.load(std::memory_order_acquire);
        ring_.control().writer.ring_for_the_dead();
        return RingCode::kDone;
    }

    /// Of the next frame. After kSealed: the first that comes by the other path.
    [[nodiscard]] std::uint64_t next_sequence() const { return sequence_; }
    [[nodiscard]] std::uint32_t epoch() const { return ring_.epoch(); }
    /// After kSealed: of the path that follows.
    [[nodiscard]] std::uint32_t next_epoch() const { return next_epoch_; }

    /// kDone: `frame` is the next one. Else kEmpty, kSealed, kCorrupt.
    RingCode try_peek(Frame& frame) {
        const FrameHeader& header = ring_.header(head_);
        const FrameWord word(header.word.load(std::memory_order_seq_cst));
        if (word.bits() == 0) return RingCode::kEmpty;
        if (!word.is_sound() || header.sequence.load(std::memory_order_relaxed) != sequence_)
            [[unlikely]] {
            return RingCode::kCorrupt;
        }
        if (word.kind() == kSealKind) [[unlikely]] {
            next_epoch_ = word.value();
            return RingCode::kSealed;
        }
        const std::uint32_t size_bytes = word.value();
        if (size_bytes > ring_.max_payload_bytes()) [[unlikely]]
            return RingCode::kCorrupt;
        const std::uint64_t payload = head_ + sizeof(FrameHeader);
        const std::uint32_t until_end = ring_.capacity_bytes() - ring_.place(payload);
        frame.kind = word.kind();
        frame.size_bytes = size_bytes;
        frame.sequence = sequence_;
        frame.first = ring_.at(payload);
        frame.first_bytes = size_bytes < until_end ? size_bytes : until_end;
        frame.rest = ring_.at(0);
        taken_bytes_ = RingView::frame_bytes(size_bytes);
        return RingCode::kDone;
    }

    /// Waits for one; kTimedOut instead of kEmpty.
    RingCode peek(Frame& frame, const Deadline& deadline = Deadline::never()) {
        RingCode code = try_peek(frame);
        if (code != RingCode::kEmpty) return code;
        const bool came = await(bell(), spin_, deadline, [&] {
            code = try_peek(frame);
            return code != RingCode::kEmpty;
        });
        return came ? code : RingCode::kTimedOut;
    }

    /// The writer rings it, and so does whoever seals the ring.
    [[nodiscard]] Doorbell& bell() const { return ring_.control().reader; }

    /// Gives the room of the frame that was peeked at back to the writer.
    void take() {
        head_ += taken_bytes_;
        taken_bytes_ = 0;
        ++sequence_;
        ring_.control().head.store(head_, std::memory_order_seq_cst);
        ring_.control().writer.ring();
    }

private:
    RingView ring_;
    std::uint64_t head_ = 0;
    std::uint64_t sequence_ = 0;
    std::uint32_t taken_bytes_ = 0;
    std::uint32_t next_epoch_ = 0;
    SpinBound spin_;
};

}  // namespace ppdsm::rings
