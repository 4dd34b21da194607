#include "dsm/core/rings/stream_receiver.h"

#include <utility>

namespace ppdsm::rings {

StreamReceiver::Effects StreamReceiver::step(receiver::Event event) {
    Effects effects;
    if (is_broken_) return effects;
    std::visit([&](auto&& one) { on(std::forward<decltype(one)>(one), effects); },
               std::move(event));
    return effects;
}

void StreamReceiver::on(receiver::RingMessage event, Effects& effects) {
    if (!is_on_ring_ || event.sequence != position_.next_sequence) {
        return break_off("a message of a ring came out of turn", effects);
    }
    effects.emplace_back(receiver::Deliver{event.sequence, std::move(event.message)});
    ++position_.next_sequence;
}

void StreamReceiver::on(receiver::RingSealed event, Effects& effects) {
    if (!is_on_ring_ || event.next.next_sequence != position_.next_sequence ||
        event.next.epoch <= position_.epoch) {
        return break_off("a ring's seal does not follow its last message", effects);
    }
    position_.epoch = event.next.epoch;
    is_on_ring_ = false;
    effects.emplace_back(receiver::Acknowledge{position_});
    follow_relay(effects);
}

void StreamReceiver::on(receiver::Relayed event, Effects& effects) {
    const bool is_known =
        event.frame.epoch < position_.epoch ||
        (event.frame.epoch == position_.epoch && event.frame.sequence < position_.next_sequence);
    if (is_known) {  // Sent again, since our acknowledgement got lost.
        effects.emplace_back(receiver::Acknowledge{position_});
        return;
    }
    const auto [place, is_new] = held_.try_emplace(key_of(event.frame), event.frame);
    if (!is_new) return;
    held_bytes_ += window_bytes_of(place->second);
    follow_relay(effects);
    if (held_bytes_ > most_held_bytes_) {
        break_off("more was relayed than its window holds", effects);
    }
}

void StreamReceiver::follow_relay(Effects& effects) {
    const StreamPosition before = position_;
    while (!is_on_ring_ && !held_.empty()) {
        RelayFrame& frame = held_.begin()->second;
        if (frame.epoch != position_.epoch || frame.sequence > position_.next_sequence) break;
        if (frame.sequence < position_.next_sequence) {
            return break_off("the relay's end does not follow its last message", effects);
        }
        if (frame.next_epoch && *frame.next_epoch <= frame.epoch) {
            return break_off("a path follows an earlier one", effects);
        }
        held_bytes_ -= window_bytes_of(frame);
        if (frame.next_epoch) {
            position_.epoch = *frame.next_epoch;
            is_on_ring_ = true;
            effects.emplace_back(receiver::OpenRing{position_.epoch});
        } else {
            effects.emplace_back(receiver::Deliver{frame.sequence, std::move(frame.message)});
            ++position_.next_sequence;
        }
        held_.erase(held_.begin());
    }
    if (position_ != before) effects.emplace_back(receiver::Acknowledge{position_});
}

void StreamReceiver::break_off(std::string why, Effects& effects) {
    is_broken_ = true;
    effects.emplace_back(receiver::Broken{std::move(why)});
}

}  // namespace ppdsm::rings
