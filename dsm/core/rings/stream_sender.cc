#include "dsm/core/rings/stream_sender.h"

#include <utility>

#include "dsm/base/check.h"

namespace ppdsm::rings {

namespace {

/// An end has, once the receiver is on the path behind it: before, it wants no later message.
bool has_arrived(const RelayFrame& frame, const StreamPosition& at) {
    return frame.epoch != at.epoch ? frame.epoch < at.epoch : frame.sequence < at.next_sequence;
}

}  // namespace

StreamSender::Effects StreamSender::step(sender::Event event) {
    Effects effects;
    std::visit([&](auto&& one) { on(std::forward<decltype(one)>(one), effects); },
               std::move(event));
    return effects;
}

void StreamSender::on(sender::Submit event, Effects& effects) {
    PPDSM_CHECK(can_submit());
    if (!is_on_ring_) {
        relay({position_.epoch, position_.next_sequence, std::nullopt, std::move(event.message)},
              effects);
        ++position_.next_sequence;
        return;
    }
    putting_ = std::move(event.message);
    effects.emplace_back(sender::Put{*putting_});
}

void StreamSender::on(sender::PutDone, Effects&) {
    PPDSM_CHECK(putting_);
    putting_.reset();
    ++position_.next_sequence;
}

void StreamSender::on(sender::PutSealed event, Effects& effects) {
    PPDSM_CHECK(putting_);
    // The seal took our message's place: it is the first on the relay.
    position_.epoch = event.next_epoch;
    is_on_ring_ = false;
    relay({position_.epoch, position_.next_sequence, std::nullopt, *std::move(putting_)}, effects);
    putting_.reset();
    ++position_.next_sequence;
}

void StreamSender::on(sender::Acknowledged event, Effects&) {
    while (!kept_.empty() && has_arrived(kept_.front(), event.position)) {
        kept_bytes_ -= window_bytes_of(kept_.front());
        if (kept_.front().next_epoch) is_ending_ = false;
        kept_.pop_front();
    }
}

void StreamSender::on(sender::Reconnected, Effects& effects) {
    for (const RelayFrame& frame : kept_) effects.emplace_back(sender::Relay{frame});
}

void StreamSender::on(sender::OfferRing, Effects& effects) {
    // One end at a time, so that the window bounds what is kept.
    if (is_on_ring_ || is_ending_) return;
    is_ending_ = true;
    const std::uint32_t relay_epoch = position_.epoch++;
    effects.emplace_back(sender::OpenRing{position_});
    relay({relay_epoch, position_.next_sequence, position_.epoch, {}}, effects);
    is_on_ring_ = true;
}

void StreamSender::relay(RelayFrame frame, Effects& effects) {
    kept_bytes_ += window_bytes_of(frame);
    kept_.push_back(frame);
    effects.emplace_back(sender::Relay{std::move(frame)});
}

}  // namespace ppdsm::rings
