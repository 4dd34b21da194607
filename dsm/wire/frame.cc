#include "dsm/wire/frame.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

namespace ppdsm {

namespace {

static_assert(std::endian::native == std::endian::little, "numbers travel as they are");

constexpr std::size_t kKiB = 1024;
/// What an announced size alone can make us hold.
constexpr std::size_t kEarlyReserveBytes = 1024 * kKiB;
constexpr std::string_view kMagic{"PPDSM\0", 6};

struct TypeRow {
    MessageType type;
    std::string_view name;
    std::size_t max_bytes;
};

/// The one table of messages; WIRE.md explains each.
constexpr std::array kTypes{
    TypeRow{MessageType::kHello, "Hello", 16 * kKiB},
    TypeRow{MessageType::kGossip, "Gossip", 128 * kKiB},
    TypeRow{MessageType::kTrust, "Trust", 2 * 1024 * kKiB},
    TypeRow{MessageType::kListDirectory, "ListDirectory", 2 * 1024 * kKiB},
    TypeRow{MessageType::kDirectory, "Directory", 16 * 1024 * kKiB},
    TypeRow{MessageType::kGetContent, "GetContent", 16 * kKiB},
    TypeRow{MessageType::kContent, "Content", 4 * 1024 * kKiB},
    TypeRow{MessageType::kGetPiece, "GetPiece", 16 * kKiB},
    TypeRow{MessageType::kPiece, "Piece", 1280 * kKiB},
    TypeRow{MessageType::kHoldFiles, "HoldFiles", 1280 * kKiB},
    TypeRow{MessageType::kFilesHeld, "FilesHeld", 16 * kKiB},
    TypeRow{MessageType::kGetCatalog, "GetCatalog", 4 * kKiB},
    TypeRow{MessageType::kCatalog, "Catalog", 1280 * kKiB},
    TypeRow{MessageType::kOffer, "Offer", 512 * kKiB},
    TypeRow{MessageType::kOfferAnswer, "OfferAnswer", 16 * kKiB},
    TypeRow{MessageType::kGetChunks, "GetChunks", 128 * kKiB},
    TypeRow{MessageType::kChunks, "Chunks", 512 * kKiB},
    TypeRow{MessageType::kGetManifest, "GetManifest", 16 * kKiB},
    TypeRow{MessageType::kManifestPiece, "ManifestPiece", 512 * kKiB},
    TypeRow{MessageType::kPullEnded, "PullEnded", 16 * kKiB},
    TypeRow{MessageType::kGetOffer, "GetOffer", 16 * kKiB},
    TypeRow{MessageType::kOfferGiven, "OfferGiven", 512 * kKiB},
    TypeRow{MessageType::kForget, "Forget", 4 * kKiB},
    TypeRow{MessageType::kDeploy, "Deploy", 16 * 1024 * kKiB},
    TypeRow{MessageType::kAnswer, "Answer", 1024 * kKiB},
    TypeRow{MessageType::kCommand, "Command", 256 * kKiB},
    TypeRow{MessageType::kEvent, "Event", 256 * kKiB},
    TypeRow{MessageType::kOutput, "Output", 512 * kKiB},
    TypeRow{MessageType::kWarrant, "Warrant", 4 * kKiB},
};

const TypeRow* row_of(MessageType type) {
    const auto found = std::find_if(kTypes.begin(), kTypes.end(),
                                    [&](const TypeRow& row) { return row.type == type; });
    return found == kTypes.end() ? nullptr : &*found;
}

template <typename Number>
Number number_at(ByteView bytes, std::size_t offset) {
    Number number{};
    std::memcpy(&number, bytes.data() + offset, sizeof number);
    return number;
}

template <typename Number>
void put_number(std::span<std::uint8_t> bytes, std::size_t offset, Number number) {
    std::memcpy(bytes.data() + offset, &number, sizeof number);
}

std::string versions(std::uint16_t oldest, std::uint16_t newest) {
    return oldest == newest
               ? "version " + std::to_string(newest)
               : "versions " + std::to_string(oldest) + " to " + std::to_string(newest);
}

}  // namespace

std::string_view message_name(MessageType type) {
    const TypeRow* row = row_of(type);
    return row == nullptr ? "unknown" : row->name;
}

std::size_t max_payload_bytes(MessageType type) {
    const TypeRow* row = row_of(type);
    return row == nullptr ? 0 : row->max_bytes;
}

const std::vector<MessageType>& all_message_types() {
    static const std::vector<MessageType> all = [] {
        std::vector<MessageType> types;
        for (const TypeRow& row : kTypes) types.push_back(row.type);
        return types;
    }();
    return all;
}

Bytes encode_frame(MessageType type, std::uint64_t correlation, ByteView payload) {
    Bytes frame;
    frame.reserve(kFrameHeaderBytes + payload.size());
    frame.resize(kFrameHeaderBytes);
    put_number(frame, 0, static_cast<std::uint32_t>(payload.size()));
    put_number(frame, 4, static_cast<std::uint16_t>(type));
    put_number(frame, 8, correlation);
    frame.insert(frame.end(), payload.begin(), payload.end());
    return frame;
}

Status FrameReader::read_header() {
    const auto size_bytes = number_at<std::uint32_t>(header_, 0);
    const auto type = number_at<std::uint16_t>(header_, 4);
    const std::size_t limit_bytes = max_payload_bytes(static_cast<MessageType>(type));
    if (limit_bytes == 0) {
        return fail(Code::kCorrupt, "a frame of the unknown type " + std::to_string(type));
    }
    if (number_at<std::uint16_t>(header_, 6) != 0) {
        return fail(Code::kCorrupt, "a frame whose reserved bytes are not zero");
    }
    frame_.type = static_cast<MessageType>(type);
    if (size_bytes > limit_bytes) {
        return fail(Code::kCorrupt, "a " + std::string(message_name(frame_.type)) + " of " +
                                        std::to_string(size_bytes) + " bytes; at most " +
                                        std::to_string(limit_bytes) + " are allowed");
    }
    frame_.correlation = number_at<std::uint64_t>(header_, 8);
    payload_bytes_ = size_bytes;
    frame_.payload.clear();
    frame_.payload.reserve(std::min(payload_bytes_, kEarlyReserveBytes));
    return {};
}

Status FrameReader::feed(ByteView bytes, const std::function<Status(Frame)>& sink) {
    while (!bytes.empty()) {
        if (header_bytes_ < kFrameHeaderBytes) {
            header_.at(header_bytes_++) = bytes.front();
            bytes = bytes.subspan(1);
            if (header_bytes_ < kFrameHeaderBytes) continue;
            PPDSM_TRY(read_header());
        }
        const std::size_t take = std::min(bytes.size(), payload_bytes_ - frame_.payload.size());
        // Beyond the reserve it grows with what has come, not with what was announced.
        frame_.payload.insert(frame_.payload.end(), bytes.begin(),
                              bytes.begin() + static_cast<std::ptrdiff_t>(take));
        bytes = bytes.subspan(take);
        if (frame_.payload.size() < payload_bytes_) break;
        header_bytes_ = 0;
        PPDSM_TRY(sink(std::exchange(frame_, {})));
    }
    return {};
}

std::array<std::uint8_t, kPreambleBytes> encode_preamble() {
    std::array<std::uint8_t, kPreambleBytes> bytes{};
    std::copy(kMagic.begin(), kMagic.end(), bytes.begin());
    put_number(bytes, kMagic.size(), kOldestWireVersion);
    put_number(bytes, kMagic.size() + 2, kNewestWireVersion);
    return bytes;
}

Status check_preamble(ByteView bytes) {
    if (bytes.size() != kPreambleBytes || !std::equal(kMagic.begin(), kMagic.end(), bytes.begin(),
                                                      [](char ours, std::uint8_t theirs) {
                                                          return static_cast<std::uint8_t>(ours) ==
                                                                 theirs;
                                                      })) {
        return fail(Code::kCorrupt, "the other side does not speak ppdsm's protocol");
    }
    const auto oldest = number_at<std::uint16_t>(bytes, kMagic.size());
    const auto newest = number_at<std::uint16_t>(bytes, kMagic.size() + 2);
    if (oldest > kNewestWireVersion || newest < kOldestWireVersion) {
        return fail(Code::kUnsupported, "the other side speaks " + versions(oldest, newest) +
                                            " of the protocol, we speak " +
                                            versions(kOldestWireVersion, kNewestWireVersion) +
                                            "; install the same release of ppdsm on both");
    }
    return {};
}

}  // namespace ppdsm
