// The network between the hosts of a test bed: a thread that passes Ethernet frames between TAP
// devices, and delays, loses or silently drops them as it is told. In user space, since not every
// kernel has netem or nftables.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <queue>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dsm/base/owned_fd.h"

namespace ppdsm::process_test {

class VirtualSwitch {
public:
    /// One direction between two ports.
    struct Path {
        bool is_cut = false;
        double loss = 0;  ///< Part of the frames.
        std::chrono::microseconds delay{0};
    };

    VirtualSwitch();
    ~VirtualSwitch();
    VirtualSwitch(const VirtualSwitch&) = delete;
    VirtualSwitch& operator=(const VirtualSwitch&) = delete;

    /// `tap`: a TAP device without packet information, whose hardware address is mac_of() of the
    /// port that is returned.
    std::size_t add_port(OwnedFd tap);
    void set_path(std::size_t from, std::size_t to, const Path& path);
    [[nodiscard]] Path path(std::size_t from, std::size_t to) const;
    /// "02:00:00:00:00:01" for port 0.
    static std::string mac_of(std::size_t port);

private:
    using Clock = std::chrono::steady_clock;
    struct Delayed {
        Clock::time_point due;
        std::uint64_t order = 0;  ///< Frames of equal delay keep theirs.
        std::size_t to = 0;
        std::vector<std::uint8_t> frame;
        bool operator<(const Delayed& other) const {
            return due != other.due ? due > other.due : order > other.order;
        }
    };
    void run();
    void pass(std::size_t from, const std::vector<std::uint8_t>& frame);
    void deliver_due();
    [[nodiscard]] int wait_ms() const;

    mutable std::mutex mutex_;
    std::vector<OwnedFd> ports_;
    std::vector<std::vector<Path>> paths_;  ///< By source, then destination.
    std::priority_queue<Delayed> delayed_;
    std::uint64_t next_order_ = 0;
    std::mt19937_64 random_{1};
    OwnedFd wake_;
    std::atomic<bool> stopping_{false};
    std::thread thread_;
};

}  // namespace ppdsm::process_test
