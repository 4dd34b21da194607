#include "tests/testbed/virtual_switch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace ppdsm::process_test {

namespace {

constexpr std::size_t kMaxFrameBytes = 65'536;
constexpr std::size_t kMacBytes = 6;
/// A host's link cannot take more frames at once than this without the others being looked at.
constexpr int kFramesAtOnce = 64;

}  // namespace

VirtualSwitch::VirtualSwitch()
    : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), thread_([this] { run(); }) {}

VirtualSwitch::~VirtualSwitch() {
    stopping_ = true;
    ::eventfd_write(wake_.get(), 1);
    thread_.join();
}

std::string VirtualSwitch::mac_of(std::size_t port) {
    std::array<char, 18> text{};
    std::snprintf(text.data(), text.size(), "02:00:00:00:00:%02zx", (port + 1) & 0xFF);
    return text.data();
}

std::size_t VirtualSwitch::add_port(OwnedFd tap) {
    ::fcntl(tap.get(), F_SETFL, ::fcntl(tap.get(), F_GETFL) | O_NONBLOCK);
    const std::lock_guard lock(mutex_);
    ports_.push_back(std::move(tap));
    for (auto& row : paths_) row.resize(ports_.size());
    paths_.emplace_back(ports_.size());
    ::eventfd_write(wake_.get(), 1);
    return ports_.size() - 1;
}

void VirtualSwitch::set_path(std::size_t from, std::size_t to, const Path& path) {
    const std::lock_guard lock(mutex_);
    paths_.at(from).at(to) = path;
}

VirtualSwitch::Path VirtualSwitch::path(std::size_t from, std::size_t to) const {
    const std::lock_guard lock(mutex_);
    return paths_.at(from).at(to);
}

int VirtualSwitch::wait_ms() const {
    if (delayed_.empty()) return -1;
    const auto left = delayed_.top().due - Clock::now();
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(left).count() + 1;
    return static_cast<int>(std::clamp<std::int64_t>(ms, 0, 1000));
}

void VirtualSwitch::run() {
    std::vector<std::uint8_t> frame(kMaxFrameBytes);
    while (!stopping_) {
        std::vector<pollfd> waited = {{wake_.get(), POLLIN, 0}};
        int timeout_ms = 0;
        {
            const std::lock_guard lock(mutex_);
            for (const OwnedFd& port : ports_) waited.push_back({port.get(), POLLIN, 0});
            timeout_ms = wait_ms();
        }
        ::poll(waited.data(), waited.size(), timeout_ms);
        eventfd_t woken = 0;
        ::eventfd_read(wake_.get(), &woken);
        const std::lock_guard lock(mutex_);
        deliver_due();
        for (std::size_t port = 0; port + 1 < waited.size(); ++port) {
            for (int i = 0; i < kFramesAtOnce; ++i) {
                frame.resize(kMaxFrameBytes);
                const ssize_t got = ::read(ports_[port].get(), frame.data(), frame.size());
                if (got < static_cast<ssize_t>(2 * kMacBytes)) break;
                frame.resize(static_cast<std::size_t>(got));
                pass(port, frame);
            }
        }
    }
}

void VirtualSwitch::pass(std::size_t from, const std::vector<std::uint8_t>& frame) {
    const bool is_for_all = (frame[0] & 1) != 0;
    const std::size_t addressed = static_cast<std::size_t>(frame[kMacBytes - 1]) - 1;
    for (std::size_t to = 0; to < ports_.size(); ++to) {
        if (to == from || (!is_for_all && to != addressed)) continue;
        const Path& path = paths_[from][to];
        if (path.is_cut) continue;
        if (path.loss > 0 && std::uniform_real_distribution<>()(random_) < path.loss) continue;
        if (path.delay.count() > 0) {
            delayed_.push({Clock::now() + path.delay, next_order_++, to, frame});
        } else {
            // A full queue drops, as a switch does.
            (void)!::write(ports_[to].get(), frame.data(), frame.size());
        }
    }
}

void VirtualSwitch::deliver_due() {
    while (!delayed_.empty() && delayed_.top().due <= Clock::now()) {
        const Delayed& next = delayed_.top();
        (void)!::write(ports_[next.to].get(), next.frame.data(), next.frame.size());
        delayed_.pop();
    }
}

}  // namespace ppdsm::process_test
