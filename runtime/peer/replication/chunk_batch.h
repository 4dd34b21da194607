// Chunks on their way between two peers, in the bytes that travel: messages ChunkRequest,
// ChunkBatch, ManifestRequest and ManifestPiece of dsm/wire/chunks.fbs. They are made and read on
// pool threads; the loop's thread only passes them on. A batch holds blocks as they lie in packs,
// so that neither side compresses anew what moves as a whole.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "criu-glue/store/chunk_store.h"
#include "criu-glue/store/stored_block.h"

namespace ppdsm {

/// Bounds of every message of this protocol.
inline constexpr std::size_t kMaxChunkMessageBytes = std::size_t{256} << 10;
inline constexpr std::size_t kMaxNamesPerRequest = 4096;

struct ChunkRequest {
    std::string vc;
    std::uint64_t generation = 0;
    std::vector<ChunkId> names;  ///< 1 to kMaxNamesPerRequest.
};
[[nodiscard]] Bytes encode_chunk_request(const ChunkRequest& request);
Result<ChunkRequest> decode_chunk_request(ByteView payload);

struct ManifestRequest {
    std::string vc;
    std::uint64_t generation = 0;
    ChunkId manifest_name;
    std::uint64_t offset_bytes = 0;
};
[[nodiscard]] Bytes encode_manifest_request(const ManifestRequest& request);
Result<ManifestRequest> decode_manifest_request(ByteView payload);

/// The payload of a ChunkBatch message; opaque until read_batch().
struct ChunkBatch {
    Bytes payload;
};
/// The payload of a ManifestPiece message.
struct ManifestPiece {
    Bytes payload;
};

/// Gathers an answer within kMaxChunkMessageBytes.
class BatchWriter {
public:
    /// False: it does not fit, nothing was added. The first block always fits.
    bool add(StoredBlock block);
    bool add_missing(const ChunkId& id);
    [[nodiscard]] bool empty() const { return blocks_.empty() && missing_.empty(); }
    [[nodiscard]] std::size_t room_bytes() const { return kMaxChunkMessageBytes - used_bytes_; }
    [[nodiscard]] ChunkBatch finish() const;

private:
    static constexpr std::size_t kFrameBytes = 256;  ///< FlatBuffers' own, of a whole batch.
    static constexpr std::size_t kBlockBytes = 64;   ///< And of a block.
    std::vector<StoredBlock> blocks_;
    std::vector<ChunkId> missing_;
    std::size_t used_bytes_ = kFrameBytes;
};
[[nodiscard]] ChunkBatch refuse_request(const Error& why);
[[nodiscard]] ManifestPiece make_manifest_piece(std::uint64_t offset_bytes, ByteView content);
[[nodiscard]] ManifestPiece refuse_manifest(const Error& why);

/// What a batch says; refers to the batch. Shapes are checked, contents are not yet.
struct BatchContent {
    std::vector<StoredBlockView> blocks;
    std::vector<ChunkId> missing;
};
/// kCorrupt: not a batch. A refusal comes as the error that it was at the other end.
Result<BatchContent> read_batch(const ChunkBatch& batch);
struct ManifestPieceContent {
    std::uint64_t offset_bytes = 0;
    ByteView content;
};
Result<ManifestPieceContent> read_manifest_piece(const ManifestPiece& piece);

}  // namespace ppdsm
