// A virtual thread's link page from its executor's point of view: calls come on the loop's thread,
// whatever thread waits for them.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "dsm/io/loop.h"
#include "runtime/peer/vthreads/call_link.h"

namespace ppdsm {

class HostedLink {
public:
    /// On the loop's thread.
    struct Callbacks {
        std::function<void(std::uint64_t number, Bytes call)> on_call;
        std::function<void(const Error& why)> on_broken;
    };
    HostedLink(Loop& loop, Callbacks callbacks);
    ~HostedLink();
    HostedLink(const HostedLink&) = delete;
    HostedLink& operator=(const HostedLink&) = delete;

    /// Of an incarnation that begins, whose process does not run yet.
    Status attach(const std::filesystem::path& page);
    /// Before the page's file is touched otherwise.
    void detach();
    void answer(std::uint64_t number, Bytes bytes);
    /// See CallLink; 0 when there is no link.
    [[nodiscard]] std::uint64_t answered_calls();

private:
    void take_calls();

    Callbacks callbacks_;
    std::mutex mutex_;
    std::deque<Bytes> calls_;
    std::optional<Error> broken_;
    Doorbell bell_;
    std::unique_ptr<CallLink> link_;
};

}  // namespace ppdsm
