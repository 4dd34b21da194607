// The sending end of a stream.
#pragma once

#include <deque>
#include <variant>
#include <vector>

#include "dsm/core/rings/stream.h"

namespace ppdsm::rings {

namespace sender {

// Events.
/// The program sends. Only when can_submit().
struct Submit {
    Bytes message;
};
/// The ring's answers to Put.
struct PutDone {};
struct PutSealed {
    std::uint32_t next_epoch = 0;
};
/// The receiver tells how far it is.
struct Acknowledged {
    StreamPosition position;
};
/// There is a new link to wherever the receiver is now; what was under way on the old one is lost.
struct Reconnected {};
/// Both ends are on one peer, and no mover is at work on either. It may come in vain: offer again
/// later.
struct OfferRing {};
using Event = std::variant<Submit, PutDone, PutSealed, Acknowledged, Reconnected, OfferRing>;

// Effects.
/// Into the ring that is open, waiting for room; then tell how it went.
struct Put {
    Bytes message;
};
struct Relay {
    RelayFrame frame;
};
/// Make a ring that begins so, for both ends, before what follows is relayed.
struct OpenRing {
    StreamPosition begin;
};
using Effect = std::variant<Put, Relay, OpenRing>;

}  // namespace sender

class StreamSender {
public:
    using Effects = std::vector<sender::Effect>;

    /// Begins on the relay. At most so many bytes wait there for the receiver.
    explicit StreamSender(std::size_t window_bytes) : window_bytes_(window_bytes) {}

    Effects step(sender::Event event);

    /// False: push back until an Acknowledged, PutDone or PutSealed.
    [[nodiscard]] bool can_submit() const { return !putting_ && kept_bytes_ < window_bytes_; }
    [[nodiscard]] bool is_on_ring() const { return is_on_ring_; }
    [[nodiscard]] StreamPosition position() const { return position_; }

private:
    void on(sender::Submit event, Effects& effects);
    void on(sender::PutDone, Effects& effects);
    void on(sender::PutSealed event, Effects& effects);
    void on(sender::Acknowledged event, Effects& effects);
    void on(sender::Reconnected, Effects& effects);
    void on(sender::OfferRing, Effects& effects);
    void relay(RelayFrame frame, Effects& effects);

    std::size_t window_bytes_;
    StreamPosition position_;  ///< Of what is submitted next.
    bool is_on_ring_ = false;
    bool is_ending_ = false;  ///< An end of the relay is among the kept.
    std::optional<Bytes> putting_;
    std::deque<RelayFrame> kept_;  ///< Relayed, and not acknowledged.
    std::size_t kept_bytes_ = 0;
};

}  // namespace ppdsm::rings
