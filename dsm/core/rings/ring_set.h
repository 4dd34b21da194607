// A receiver that has several senders waits for a message in any of its rings, and takes them in
// turn.
//
// Header-only, no exceptions, no part of the C++ library that is compiled.
#pragma once

#include "dsm/core/rings/ring_reader.h"

namespace ppdsm::rings {

/// One thread at a time. The readers are the caller's, and stay where they are while they are in.
class RingSet {
public:
    static constexpr std::uint32_t kMostRings = kMaxFutexes;

    /// False: it is full.
    bool add(RingReader& reader) {
        if (count_ == kMostRings) return false;
        readers_[count_++] = &reader;
        return true;
    }
    void remove(const RingReader& reader) {
        for (std::uint32_t i = 0; i < count_; ++i) {
            if (readers_[i] != &reader) continue;
            readers_[i] = readers_[--count_];
            return;
        }
    }

    /// Looks at each, beginning behind the one that was last: none is starved. kDone, kSealed or
    /// kCorrupt as `from` says; or kEmpty.
    RingCode try_peek(Frame& frame, RingReader*& from) {
        for (std::uint32_t i = 0; i < count_; ++i) {
            const std::uint32_t at = (last_ + 1 + i) % count_;
            const RingCode code = readers_[at]->try_peek(frame);
            if (code == RingCode::kEmpty) continue;
            from = readers_[at];
            last_ = at;
            return code;
        }
        return RingCode::kEmpty;
    }

    /// Waits; kTimedOut instead of kEmpty. A ring that is sealed or corrupt is told of until it is
    /// removed.
    RingCode peek(Frame& frame, RingReader*& from, const Deadline& deadline = Deadline::never()) {
        const std::uint32_t spins = spin_.spins();
        for (std::uint32_t spin = 0; spin < spins; ++spin) {
            const RingCode code = try_peek(frame, from);
            if (code != RingCode::kEmpty) {
                spin_.came_after(spin);
                return code;
            }
            relax_cpu();
        }
        spin_.came_late();
        // As await() does with one bell (doorbell.h).
        FutexWait woken = FutexWait::kWoken;
        while (true) {
            set_sleeping(1);
            const RingCode code = try_peek(frame, from);
            if (code != RingCode::kEmpty || woken == FutexWait::kTimedOut) {
                set_sleeping(0);
                return code == RingCode::kEmpty ? RingCode::kTimedOut : code;
            }
            struct futex_waitv waiters[kMostRings];
            for (std::uint32_t i = 0; i < count_; ++i) {
                waiters[i] = futex_waiter(readers_[i]->bell().sleeping, 1);
            }
            woken = futex_wait_any(waiters, count_, deadline);
        }
    }

private:
    void set_sleeping(std::uint32_t value) {
        for (std::uint32_t i = 0; i < count_; ++i) {
            readers_[i]->bell().sleeping.store(value, std::memory_order_seq_cst);
        }
    }

    RingReader* readers_[kMostRings] = {};
    std::uint32_t count_ = 0;
    std::uint32_t last_ = 0;
    SpinBound spin_;
};

}  // namespace ppdsm::rings
