// Waiting on a 32-bit word in memory that processes share, by the kernel's futexes.
//
// Header-only, and nothing of the C++ library but atomics: the library that is preloaded into
// programs uses it. No file descriptor is involved, so a process that waits can be checkpointed;
// its wait goes on where it is restored, by the word that it finds there then.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace ppdsm {

static_assert(sizeof(std::atomic<std::uint32_t>) == 4, "the kernel's futex is 32 bits");
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// A moment of CLOCK_MONOTONIC, which goes on where a checkpoint is restored.
class Deadline {
public:
    [[nodiscard]] static Deadline never() { return Deadline(); }
    /// A duration below 0 counts as 0.
    [[nodiscard]] static Deadline after_ns(std::int64_t duration_ns) {
        Deadline deadline;
        deadline.is_never_ = false;
        if (duration_ns < 0) duration_ns = 0;
        ::clock_gettime(CLOCK_MONOTONIC, &deadline.at_);
        deadline.at_.tv_sec += duration_ns / kSecondNs;
        deadline.at_.tv_nsec += duration_ns % kSecondNs;
        if (deadline.at_.tv_nsec >= kSecondNs) {
            deadline.at_.tv_nsec -= kSecondNs;
            ++deadline.at_.tv_sec;
        }
        return deadline;
    }
    /// As the kernel wants it; null: never.
    [[nodiscard]] const timespec* at() const { return is_never_ ? nullptr : &at_; }

private:
    static constexpr std::int64_t kSecondNs = 1'000'000'000;
    timespec at_{};
    bool is_never_ = true;
};

enum class FutexWait : std::uint8_t {
    kWoken,     ///< Or interrupted: look again.
    kChanged,   ///< The word had another value already.
    kTimedOut,  ///< The deadline has passed.
};

/// Sleeps while the word has that value, until woken or the deadline.
inline FutexWait futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value,
                            const Deadline& deadline) {
    // The bitset variant, since its time limit is a moment: a wait that is interrupted often still
    // ends.
    if (::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, value, deadline.at(), nullptr,
                  FUTEX_BITSET_MATCH_ANY) == 0) {
        return FutexWait::kWoken;
    }
    if (errno == ETIMEDOUT) return FutexWait::kTimedOut;
    return errno == EAGAIN ? FutexWait::kChanged : FutexWait::kWoken;
}

/// How many words one can wait for at once.
inline constexpr std::uint32_t kMaxFutexes = 128;

/// Says what to wait for in futex_wait_any.
inline struct futex_waitv futex_waiter(std::atomic<std::uint32_t>& word, std::uint32_t value) {
    struct futex_waitv waiter{};
    waiter.uaddr = reinterpret_cast<std::uintptr_t>(&word);
    waiter.val = value;
    waiter.flags = FUTEX_32;
    return waiter;
}

/// Sleeps while every word has its value, until one is woken or the deadline. At most kMaxFutexes.
/// Linux 5.16 and newer; on an older one it returns at once.
inline FutexWait futex_wait_any(const struct futex_waitv* waiters, std::uint32_t count,
                                const Deadline& deadline) {
    if (::syscall(SYS_futex_waitv, waiters, count, 0, deadline.at(), CLOCK_MONOTONIC) >= 0) {
        return FutexWait::kWoken;
    }
    if (errno == ETIMEDOUT) return FutexWait::kTimedOut;
    return errno == EAGAIN ? FutexWait::kChanged : FutexWait::kWoken;
}

/// Wakes up to `count` of those who sleep on the word.
inline void futex_wake(std::atomic<std::uint32_t>& word, std::uint32_t count = 1) {
    ::syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

}  // namespace ppdsm
