// Sealing: a mover ends a ring at a frame boundary, while one of its ends does not run. The seal
// takes the place of the next frame by the compare-and-swap by which the writer would publish that:
// either the frame is in the ring and the seal comes behind it, or it never was and its writer is
// told.
#pragma once

#include "dsm/core/rings/ring_layout.h"

namespace ppdsm::rings {

/// Where a ring ended. Frames before `next_sequence` are in it or were taken; all others go by the
/// path of `next_epoch`.
struct Seal {
    std::uint64_t next_sequence = 0;
    std::uint32_t next_epoch = 0;
};

/// Seals the ring, and wakes both ends. The caller made sure that the writer or the reader does not
/// run meanwhile (is frozen or dead), or is one of them: if both went on, the place would move away
/// below our hands. kDone: sealed, by us or before, as `seal` says. kCorrupt: there is no end to be
/// found.
inline RingCode seal_ring(void* memory, std::size_t size_bytes, std::uint32_t next_epoch,
                          Seal& seal) {
    RingView ring;
    if (const RingCode code = ring.attach(memory, size_bytes); code != RingCode::kDone) return code;
    const std::uint64_t begin = ring.head();
    if (!RingView::is_aligned(begin)) return RingCode::kCorrupt;
    std::uint64_t position = begin;
    std::uint64_t sequence = ring.header(position).sequence.load(std::memory_order_acquire);
    while (true) {
        FrameHeader& header = ring.header(position);
        std::uint64_t there = 0;
        if (header.word.compare_exchange_strong(there, FrameWord(kSealKind, next_epoch).bits(),
                                                std::memory_order_seq_cst)) {
            seal = {sequence, next_epoch};
            break;
        }
        const FrameWord word(there);
        if (!word.is_sound() || header.sequence.load(std::memory_order_acquire) != sequence) {
            return RingCode::kCorrupt;
        }
        if (word.kind() == kSealKind) {
            seal = {sequence, word.value()};
            break;
        }
        if (word.value() > ring.max_payload_bytes()) return RingCode::kCorrupt;
        position += RingView::frame_bytes(word.value());
        ++sequence;
        if (position - begin > ring.capacity_bytes() - sizeof(FrameHeader)) {
            return RingCode::kCorrupt;
        }
    }
    ring.control().reader.ring_for_the_dead();
    ring.control().writer.ring_for_the_dead();
    return RingCode::kDone;
}

}  // namespace ppdsm::rings
