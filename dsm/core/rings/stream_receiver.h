// The receiving end of a stream.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "dsm/core/rings/stream.h"

namespace ppdsm::rings {

namespace receiver {

// Events.
/// From the ring that OpenRing named.
struct RingMessage {
    std::uint64_t sequence = 0;
    Bytes message;
};
struct RingSealed {
    StreamPosition next;
};
struct Relayed {
    RelayFrame frame;
};
using Event = std::variant<RingMessage, RingSealed, Relayed>;

// Effects.
struct Deliver {
    std::uint64_t sequence = 0;
    Bytes message;
};
/// To the sender, by its relay. May get lost: the next one says more.
struct Acknowledge {
    StreamPosition position;
};
/// Read the ring of that epoch from now on, until its seal.
struct OpenRing {
    std::uint32_t epoch = 0;
};
/// The other end does not keep to the protocol: the stream is over.
struct Broken {
    std::string why;
};
using Effect = std::variant<Deliver, Acknowledge, OpenRing, Broken>;

}  // namespace receiver

class StreamReceiver {
public:
    using Effects = std::vector<receiver::Effect>;

    /// Begins on the relay. Holds at most so many bytes that come before their turn: the sender's
    /// window and its largest message.
    explicit StreamReceiver(std::size_t most_held_bytes) : most_held_bytes_(most_held_bytes) {}

    Effects step(receiver::Event event);

    [[nodiscard]] StreamPosition position() const { return position_; }
    [[nodiscard]] bool is_on_ring() const { return is_on_ring_; }

private:
    /// In the order in which the receiver wants them: an end follows its path's messages.
    using Key = std::tuple<std::uint32_t, std::uint64_t, bool>;
    static Key key_of(const RelayFrame& frame) {
        return {frame.epoch, frame.sequence, frame.next_epoch.has_value()};
    }

    void on(receiver::RingMessage event, Effects& effects);
    void on(receiver::RingSealed event, Effects& effects);
    void on(receiver::Relayed event, Effects& effects);
    void follow_relay(Effects& effects);
    void break_off(std::string why, Effects& effects);

    std::size_t most_held_bytes_;
    StreamPosition position_;
    bool is_on_ring_ = false;
    bool is_broken_ = false;
    std::map<Key, RelayFrame> held_;
    std::size_t held_bytes_ = 0;
};

}  // namespace ppdsm::rings
