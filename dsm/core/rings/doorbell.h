// How one waits for the other end of a ring: first spinning, as long as experience says that it
// pays, then asleep on a futex. While nobody sleeps, ringing is one load; an idle ring costs
// nothing.
//
// No wake-up is lost. The sleeper sets `sleeping`, looks again, and only then sleeps while
// `sleeping` is 1; the ringer changes what is waited for, and only then looks at `sleeping`. All
// four are sequentially consistent, so one of the two sees the other. dsm/models/doorbell.pml
// checks it.
#pragma once

#include <atomic>
#include <cstdint>

#include "dsm/base/futex.h"

namespace ppdsm::rings {

/// Lies in shared memory. One sleeper, any number of ringers.
struct Doorbell {
    std::atomic<std::uint32_t> sleeping;

    /// After the change (a sequentially consistent store) that a sleeper may wait for.
    void ring() {
        if (sleeping.load(std::memory_order_seq_cst) == 0) [[likely]]
            return;
        // Only one of several ringers makes the system call.
        if (sleeping.exchange(0, std::memory_order_seq_cst) != 0) futex_wake(sleeping);
    }

    /// In the place of one who may have died while ringing, its system call ahead: whatever the
    /// word says.
    void ring_for_the_dead() {
        sleeping.store(0, std::memory_order_seq_cst);
        futex_wake(sleeping);
    }
};

inline void relax_cpu() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
}

/// How long to spin: about twice as long as it lately took, at most about what falling asleep and
/// being woken costs; hardly at all where waits are long. Private to the waiting thread.
class SpinBound {
public:
    [[nodiscard]] std::uint32_t spins() const {
        return misses_ % kProbeEvery == kProbeEvery - 1 ? kMost : bound_;
    }
    void came_after(std::uint32_t spins) {
        misses_ = 0;
        const std::uint32_t wanted = 2 * spins + kLeast;
        if (wanted > bound_) bound_ += (wanted - bound_) / 2 + 1;
        if (wanted < bound_) bound_ -= (bound_ - wanted) / 8;
        if (bound_ > kMost) bound_ = kMost;
    }
    void came_late() {
        ++misses_;
        bound_ -= (bound_ - kLeast) / 4;
    }

private:
    static constexpr std::uint32_t kLeast = 16;
    static constexpr std::uint32_t kMost = 1000;
    /// Waits may have become short again: now and then a whole spin finds out.
    static constexpr std::uint32_t kProbeEvery = 32;
    std::uint32_t bound_ = kMost;
    std::uint32_t misses_ = 0;
};

/// Waits until `done()` is true; false: the deadline passed first. `done` looks at shared words
/// with sequentially consistent loads, and whoever changes them rings `bell` afterwards.
template <class Done>
bool await(Doorbell& bell, SpinBound& bound, const Deadline& deadline, const Done& done) {
    const std::uint32_t spins = bound.spins();
    for (std::uint32_t spin = 0; spin < spins; ++spin) {
        if (done()) {
            bound.came_after(spin);
            return true;
        }
        relax_cpu();
    }
    bound.came_late();
    while (true) {
        bell.sleeping.store(1, std::memory_order_seq_cst);
        if (done()) break;
        if (futex_wait(bell.sleeping, 1, deadline) == FutexWait::kTimedOut) {
            bell.sleeping.store(0, std::memory_order_relaxed);
            return done();
        }
    }
    bell.sleeping.store(0, std::memory_order_relaxed);
    return true;
}

}  // namespace ppdsm::rings
