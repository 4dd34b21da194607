// What is said about a generation that is to be held by another peer, and its messages
// (dsm/wire/chunks.fbs).
#pragma once

#include <cstdint>
#include <string>

#include "criu-glue/store/chunk_id.h"
#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Longer manifests do not travel within the offer; they are asked for piece by piece.
inline constexpr std::size_t kMaxOfferedManifestBytes = std::size_t{128} << 10;
inline constexpr std::size_t kManifestPieceBytes = std::size_t{128} << 10;

struct GenerationOffer {
    std::string vc;
    std::uint64_t epoch = 0;  ///< Of the incarnation that made the generation.
    std::uint64_t generation = 0;
    std::uint64_t base = 0;  ///< The generation before; 0: none.
    ChunkId manifest_name;   ///< As in its GenerationRecord.
    std::uint64_t manifest_bytes = 0;
    Bytes manifest;  ///< Whole, or empty.

    bool operator==(const GenerationOffer&) const = default;
};

/// What a pull has cost.
struct PullReport {
    std::uint64_t chunks = 0;          ///< Fetched.
    std::uint64_t raw_bytes = 0;       ///< Of those chunks.
    std::uint64_t received_bytes = 0;  ///< Of batches and manifest pieces, as they travelled.
    std::uint64_t sent_bytes = 0;      ///< Of names in requests.
    std::uint64_t requests = 0;
    std::uint64_t durable_us = 0;      ///< That the last flush and the manifest took.
    std::uint64_t wasted_batches = 0;  ///< Refused ones.
};

/// kInvalid or kCorrupt where `payload` is no such message.
[[nodiscard]] Bytes encode_offer(const GenerationOffer& offer);
Result<GenerationOffer> decode_offer(ByteView payload);

/// The answer to an offer: durable, or why not.
struct OfferAnswer {
    std::string vc;
    std::uint64_t generation = 0;
    ChunkId manifest_name;
    Result<PullReport> outcome;
};
[[nodiscard]] Bytes encode_offer_answer(const OfferAnswer& answer);
Result<OfferAnswer> decode_offer_answer(ByteView payload);

struct PullEnded {
    std::string vc;
    std::uint64_t generation = 0;
};
[[nodiscard]] Bytes encode_pull_ended(const PullEnded& ended);
Result<PullEnded> decode_pull_ended(ByteView payload);

}  // namespace ppdsm
