// A stream: the messages of one virtual thread to another, numbered from 1 on. It goes by one path
// after the other, each with an epoch: a ring while both live on one peer, the relay (sender's
// daemon, link, receiver's daemon) otherwise. Every path ends with a mark that says which message
// comes first on the next: a ring's is its seal, set by a mover; the relay's is a frame of the
// sender. So each message goes by exactly one path, and the receiver, who follows the marks, gets
// each once and in order whoever moves when. RINGS.md has the protocol, dsm/models/rings.pml checks
// it.
//
// Pure: events in, effects out; no I/O, no clock. A snapshot keeps these objects as they are.
#pragma once

#include <cstdint>
#include <optional>

#include "dsm/base/files.h"

namespace ppdsm::rings {

/// What the relay carries. It arrives in order or not at all; what a broken link swallowed is sent
/// again.
struct RelayFrame {
    std::uint32_t epoch = 0;
    std::uint64_t sequence = 0;  ///< Of the message; of an end: of the first on the next path.
    /// Set: the relay's end; a ring of that epoch follows.
    std::optional<std::uint32_t> next_epoch;
    Bytes message;
};

/// What a frame takes of the sender's window, and of what the receiver holds.
inline std::size_t window_bytes_of(const RelayFrame& frame) {
    constexpr std::size_t kFrameCostBytes = 64;
    return frame.message.size() + kFrameCostBytes;
}

/// How far the receiver is: it has all before `next_sequence`, and follows the path of `epoch`.
struct StreamPosition {
    std::uint32_t epoch = 1;
    std::uint64_t next_sequence = 1;
    friend bool operator==(const StreamPosition&, const StreamPosition&) = default;
};

}  // namespace ppdsm::rings
