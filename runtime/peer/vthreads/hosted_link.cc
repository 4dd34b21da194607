#include "runtime/peer/vthreads/hosted_link.h"

#include <cstring>
#include <utility>

#include "runtime/lib/link/call_layout.h"

namespace ppdsm {

HostedLink::HostedLink(Loop& loop, Callbacks callbacks)
    : callbacks_(std::move(callbacks)), bell_(loop, [this] { take_calls(); }) {}

HostedLink::~HostedLink() { detach(); }

Status HostedLink::attach(const std::filesystem::path& page) {
    detach();
    PPDSM_ASSIGN(link_, CallLink::attach(page, {.on_call =
                                                    [this](Bytes call) {
                                                        const std::lock_guard lock(mutex_);
                                                        calls_.push_back(std::move(call));
                                                        bell_.ring();
                                                    },
                                                .on_broken =
                                                    [this](const Error& why) {
                                                        const std::lock_guard lock(mutex_);
                                                        broken_ = why;
                                                        bell_.ring();
                                                    }}));
    return {};
}

void HostedLink::detach() {
    link_.reset();
    const std::lock_guard lock(mutex_);
    calls_.clear();
    broken_.reset();
}

void HostedLink::take_calls() {
    std::deque<Bytes> calls;
    std::optional<Error> broken;
    {
        const std::lock_guard lock(mutex_);
        calls.swap(calls_);
        broken = std::exchange(broken_, std::nullopt);
    }
    for (Bytes& call : calls) {
        link::CallHeader header{};
        std::memcpy(&header, call.data(), sizeof header);
        callbacks_.on_call(header.number, std::move(call));
    }
    if (broken) callbacks_.on_broken(*broken);
}

void HostedLink::answer(std::uint64_t number, Bytes bytes) {
    if (link_) link_->answer(number, std::move(bytes));
}

std::uint64_t HostedLink::answered_calls() { return link_ ? link_->answered_calls() : 0; }

}  // namespace ppdsm
