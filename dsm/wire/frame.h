// Frames: what two peers' connection carries behind TLS. dsm/WIRE.md is the grammar. A frame is
// refused by its header alone, before anything is allocated for it, and its payload is verified
// before a field is read (codec.h).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>

#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm {

inline constexpr std::uint16_t kOldestWireVersion = 1;
inline constexpr std::uint16_t kNewestWireVersion = 1;

enum class MessageType : std::uint16_t {
    // Links and membership.
    kHello = 1,
    kGossip = 2,
    kTrust = 3,
    // A program's files.
    kListDirectory = 16,
    kDirectory = 17,
    kGetContent = 18,
    kContent = 19,
    kGetPiece = 20,
    kPiece = 21,
    kHoldFiles = 22,
    kFilesHeld = 23,
    kGetCatalog = 24,
    kCatalog = 25,
    // Generations.
    kOffer = 32,
    kOfferAnswer = 33,
    kGetChunks = 34,
    kChunks = 35,
    kGetManifest = 36,
    kManifestPiece = 37,
    kPullEnded = 38,
    kGetOffer = 39,
    kOfferGiven = 40,
    kForget = 41,
    // Virtual computers.
    kDeploy = 48,
    kAnswer = 49,
    kCommand = 50,
    kEvent = 51,
    kOutput = 52,
    kWarrant = 53,
};

[[nodiscard]] std::string_view message_name(MessageType type);
/// Most bytes of a payload; 0: no such type.
[[nodiscard]] std::size_t max_payload_bytes(MessageType type);
/// Every type there is.
[[nodiscard]] const std::vector<MessageType>& all_message_types();

struct Frame {
    MessageType type{};
    std::uint64_t correlation = 0;  ///< 0: none. An answer carries its request's.
    Bytes payload;
};

inline constexpr std::size_t kFrameHeaderBytes = 16;
[[nodiscard]] Bytes encode_frame(MessageType type, std::uint64_t correlation, ByteView payload);

/// Takes bytes as they come and gives whole frames. Holds at most one frame.
class FrameReader {
public:
    /// kCorrupt: no frame, and the connection is of no more use. What `sink` returns ends the
    /// feeding.
    Status feed(ByteView bytes, const std::function<Status(Frame)>& sink);

private:
    Status read_header();
    std::array<std::uint8_t, kFrameHeaderBytes> header_{};
    std::size_t header_bytes_ = 0;
    Frame frame_;
    std::size_t payload_bytes_ = 0;
};

/// What each side says first, whatever its version.
inline constexpr std::size_t kPreambleBytes = 16;
[[nodiscard]] std::array<std::uint8_t, kPreambleBytes> encode_preamble();
/// kUnsupported: no version in common; names what both sides speak. kCorrupt: no preamble.
Status check_preamble(ByteView bytes);

}  // namespace ppdsm
