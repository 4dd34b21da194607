// The link page: a file that a virtual thread's process and its host both map. The process holds no
// descriptor of it, and it comes back with the process when that is restored, at whatever
// instruction it was. Through it go calls, one way, and answers, the other: half duplex, a call at
// a time, in parts as large as a lane.
//
// Protocol. A lane's writer waits until `taken` equals `written`, fills the lane, then stores
// `written` + 1; its reader waits for that, copies the part out, then stores `taken`. Both words
// are futexes. A host that attaches to a page raises `epoch` first, while the process does not run.
// A part of an earlier epoch counts for nothing; a process that sees a new epoch makes its call
// anew, from its first part, under the same number. So whatever was on its way when its image was
// taken is said again.
//
// Nothing but headers, atomics and one system call: this is compiled into the preloaded library,
// which must not bring a C++ library along.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "dsm/base/futex.h"

namespace ppdsm::link {

inline constexpr std::uint64_t kPageMagic = 0x314B4E494C445050;  // "PPDLINK1"
inline constexpr std::uint32_t kPageVersion = 1;
inline constexpr std::uint32_t kLaneBytes = 256 << 10;

/// A part of a call or answer, and the room for it.
struct Lane {
    alignas(64) std::atomic<std::uint32_t> written;
    alignas(64) std::atomic<std::uint32_t> taken;
    std::uint32_t epoch;
    std::uint32_t part_bytes;
    std::uint64_t total_bytes;  ///< Of the whole call or answer.
    std::uint64_t offset;       ///< Of this part in it.
    alignas(64) std::uint8_t bytes[kLaneBytes];
};

struct CallPage {
    std::uint64_t magic;
    std::uint32_t version;
    std::atomic<std::uint32_t> epoch;
    std::uint64_t thread;                ///< Whose it is, as its computer counts.
    std::atomic<std::uint32_t> claimed;  ///< 1: a process of the program uses it.
    Lane calls;
    Lane answers;
};
static_assert(sizeof(std::atomic<std::uint32_t>) == 4);

/// Rounded up to whole pages: the size of the file.
inline constexpr std::uint64_t kPageFileBytes = (sizeof(CallPage) + 4095) / 4096 * 4096;

/// Waits until the word is not (or, with `until`, is) the value, spinning first; false when `stop`
/// says so. It looks at `stop` now and then even when nobody wakes it: who should have may be dead.
template <class Done, class Stop>
bool await_word(std::atomic<std::uint32_t>& word, const Done& done, const Stop& stop) {
    constexpr int kSpins = 500;
    constexpr std::int64_t kLookNs = 200'000'000;
    for (int spin = 0; spin < kSpins; ++spin) {
        if (done(word.load(std::memory_order_acquire))) return true;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    while (true) {
        const std::uint32_t now = word.load(std::memory_order_acquire);
        if (done(now)) return true;
        if (stop()) return false;
        (void)futex_wait(word, now, Deadline::after_ns(kLookNs));
    }
}

/// Sends bytes that lie in several pieces. False: `stop` said so.
class LaneWriter {
public:
    LaneWriter(Lane& lane, std::uint32_t epoch, std::uint64_t total_bytes)
        : lane_(lane), epoch_(epoch), total_(total_bytes) {}

    template <class Stop>
    bool write(const void* data, std::uint64_t size, const Stop& stop) {
        const auto* from = static_cast<const std::uint8_t*>(data);
        while (size > 0) {
            if (filled_ == 0 && !await_free(stop)) return false;
            const std::uint64_t room = kLaneBytes - filled_;
            const std::uint64_t take = size < room ? size : room;
            std::memcpy(lane_.bytes + filled_, from, take);
            filled_ += static_cast<std::uint32_t>(take);
            from += take;
            size -= take;
            if (filled_ == kLaneBytes || sent_ + filled_ == total_) publish();
        }
        return true;
    }

private:
    template <class Stop>
    bool await_free(const Stop& stop) {
        return await_word(
            lane_.taken,
            [&](std::uint32_t taken) {
                return taken == lane_.written.load(std::memory_order_relaxed);
            },
            stop);
    }
    void publish() {
        lane_.epoch = epoch_;
        lane_.part_bytes = filled_;
        lane_.total_bytes = total_;
        lane_.offset = sent_;
        sent_ += filled_;
        filled_ = 0;
        lane_.written.fetch_add(1, std::memory_order_release);
        futex_wake(lane_.written);
    }

    Lane& lane_;
    std::uint32_t epoch_;
    std::uint64_t total_;
    std::uint64_t sent_ = 0;
    std::uint32_t filled_ = 0;
};

/// What a part says of itself, read once: its writer may change it meanwhile.
struct PartHeader {
    std::uint32_t epoch;
    std::uint32_t part_bytes;
    std::uint64_t total_bytes;
    std::uint64_t offset;
};

/// Waits for a part. False: `stop` said so.
template <class Stop>
bool await_part(Lane& lane, PartHeader& header, const Stop& stop) {
    const bool came = await_word(
        lane.written,
        [&](std::uint32_t written) {
            return written != lane.taken.load(std::memory_order_relaxed);
        },
        stop);
    if (!came) return false;
    const volatile Lane& shared = lane;
    header = {shared.epoch, shared.part_bytes, shared.total_bytes, shared.offset};
    return true;
}

inline void take_part(Lane& lane) {
    lane.taken.store(lane.written.load(std::memory_order_relaxed), std::memory_order_release);
    futex_wake(lane.taken);
}

}  // namespace ppdsm::link
