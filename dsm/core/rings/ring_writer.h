// The writing end of a ring. A frame is published by one compare-and-swap of its header from 0:
// whoever dies before has written nothing, and a mover that seals the ring at that place first
// (seal.h) wins against the frame, which then was never sent.
//
// Header-only, no exceptions, no part of the C++ library that is compiled.
#pragma once

#include <cstring>

#include "dsm/core/rings/ring_layout.h"

namespace ppdsm::rings {

/// A part of a payload.
struct Piece {
    const void* data;
    std::uint32_t size_bytes;
};

/// One thread at a time.
class RingWriter {
public:
    /// As RingView::attach; goes on behind what has been written already.
    RingCode attach(void* memory, std::size_t size_bytes) {
        if (const RingCode code = ring_.attach(memory, size_bytes); code != RingCode::kDone) {
            return code;
        }
        head_ = ring_.head();
        position_ = head_;
        if (!RingView::is_aligned(position_)) return RingCode::kCorrupt;
        sequence_ = ring_.header(position_).sequence.load(std::memory_order_acquire);
        while (true) {
            const FrameHeader& header = ring_.header(position_);
            const FrameWord word(header.word.load(std::memory_order_acquire));
            if (word.bits() == 0 || (word.is_sound() && word.kind() == kSealKind)) break;
            if (!word.is_sound() || word.value() > ring_.max_payload_bytes()) {
                return RingCode::kCorrupt;
            }
            position_ += RingView::frame_bytes(word.value());
            ++sequence_;
            if (used_bytes() > ring_.capacity_bytes() - sizeof(FrameHeader) ||
                ring_.header(position_).sequence.load(std::memory_order_acquire) != sequence_) {
                return RingCode::kCorrupt;
            }
        }
        ring_.control().reader.ring_for_the_dead();
        return RingCode::kDone;
    }

    /// Of the next frame. After kSealed: the first that goes by the other path.
    [[nodiscard]] std::uint64_t next_sequence() const { return sequence_; }
    [[nodiscard]] std::uint32_t epoch() const { return ring_.epoch(); }
    /// After kSealed: of the path that follows.
    [[nodiscard]] std::uint32_t next_epoch() const { return next_epoch_; }
    [[nodiscard]] std::uint32_t max_payload_bytes() const { return ring_.max_payload_bytes(); }

    /// kDone: the frame is there for the reader. kFull, kSealed, kTooLarge, kCorrupt: it is not,
    /// and will not be. `kind` is neither 0 nor kSealKind.
    RingCode try_write(std::uint16_t kind, const Piece* pieces, std::uint32_t count) {
        std::uint64_t size_bytes = 0;
        for (std::uint32_t i = 0; i < count; ++i) size_bytes += pieces[i].size_bytes;
        if (size_bytes > ring_.max_payload_bytes()) return RingCode::kTooLarge;
        const auto payload_bytes = static_cast<std::uint32_t>(size_bytes);
        const std::uint32_t frame_bytes = RingView::frame_bytes(payload_bytes);
        if (!has_room(frame_bytes)) {
            const RingCode code = look_for_room(frame_bytes);
            if (code != RingCode::kDone) return code;
        }
        std::uint64_t position = position_ + sizeof(FrameHeader);
        for (std::uint32_t i = 0; i < count; ++i) {
            copy_in(position, pieces[i]);
            position += pieces[i].size_bytes;
        }
        // The next header is in order before this one counts: it is where a seal may come.
        FrameHeader& next = ring_.header(position_ + frame_bytes);
        next.sequence.store(sequence_ + 1, std::memory_order_relaxed);
        next.word.store(0, std::memory_order_relaxed);
        std::uint64_t nothing = 0;
        if (!ring_.header(position_).word.compare_exchange_strong(
                nothing, FrameWord(kind, payload_bytes).bits(), std::memory_order_seq_cst)) {
            return what_is_there(nothing);
        }
        position_ += frame_bytes;
        ++sequence_;
        ring_.control().reader.ring();
        return RingCode::kDone;
    }
    RingCode try_write(std::uint16_t kind, const void* data, std::uint32_t size_bytes) {
        const Piece piece{data, size_bytes};
        return try_write(kind, &piece, 1);
    }

    /// Waits for room; kTimedOut instead of kFull.
    RingCode write(std::uint16_t kind, const Piece* pieces, std::uint32_t count,
                   const Deadline& deadline) {
        while (true) {
            const RingCode code = try_write(kind, pieces, count);
            if (code != RingCode::kFull) return code;
            if (!await_room(pieces, count, deadline)) return RingCode::kTimedOut;
        }
    }
    RingCode write(std::uint16_t kind, const void* data, std::uint32_t size_bytes,
                   const Deadline& deadline = Deadline::never()) {
        const Piece piece{data, size_bytes};
        return write(kind, &piece, 1, deadline);
    }

private:
    [[nodiscard]] std::uint64_t used_bytes() const { return position_ - head_; }
    [[nodiscard]] bool has_room(std::uint32_t frame_bytes) const {
        return used_bytes() + frame_bytes + sizeof(FrameHeader) <= ring_.capacity_bytes();
    }
    RingCode look_for_room(std::uint32_t frame_bytes) {
        head_ = ring_.head();
        // A head before the one we saw, or beyond what we wrote, is none.
        if (used_bytes() > ring_.capacity_bytes() || !RingView::is_aligned(head_)) {
            return RingCode::kCorrupt;
        }
        if (has_room(frame_bytes)) return RingCode::kDone;
        const std::uint64_t there = ring_.header(position_).word.load(std::memory_order_seq_cst);
        return there == 0 ? RingCode::kFull : what_is_there(there);
    }
    bool await_room(const Piece* pieces, std::uint32_t count, const Deadline& deadline) {
        std::uint32_t payload_bytes = 0;
        for (std::uint32_t i = 0; i < count; ++i) payload_bytes += pieces[i].size_bytes;
        const std::uint32_t frame_bytes = RingView::frame_bytes(payload_bytes);
        return await(ring_.control().writer, spin_, deadline,
                     [&] { return look_for_room(frame_bytes) != RingCode::kFull; });
    }
    /// Where our frame should go.
    RingCode what_is_there(std::uint64_t bits) {
        const FrameWord word(bits);
        if (!word.is_sound() || word.kind() != kSealKind) return RingCode::kCorrupt;
        next_epoch_ = word.value();
        return RingCode::kSealed;
    }
    void copy_in(std::uint64_t position, const Piece& piece) {
        const std::uint32_t until_end = ring_.capacity_bytes() - ring_.place(position);
        if (piece.size_bytes <= until_end) [[likely]] {
            if (piece.size_bytes > 0) {
                std::memcpy(ring_.at(position), piece.data, piece.size_bytes);
            }
            return;
        }
        std::memcpy(ring_.at(position), piece.data, until_end);
        std::memcpy(ring_.at(position + until_end),
                    static_cast<const std::uint8_t*>(piece.data) + until_end,
                    piece.size_bytes - until_end);
    }

    RingView ring_;
    std::uint64_t position_ = 0;  ///< Of the next frame.
    std::uint64_t head_ = 0;      ///< The reader's when we last looked.
    std::uint64_t sequence_ = 0;
    std::uint32_t next_epoch_ = 0;
    SpinBound spin_;
};

}  // namespace ppdsm::rings
