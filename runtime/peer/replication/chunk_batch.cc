#include "runtime/peer/replication/chunk_batch.h"

#include <algorithm>
#include <limits>

#include "dsm/base/check.h"
#include "runtime/peer/replication/generation_offer.h"
#include "runtime/peer/replication/wire_tables.h"

namespace ppdsm {

using wire_tables::id_of;
using wire_tables::name_of;

namespace {

static_assert(sizeof(wire::ChunkName) == sizeof(ChunkId));

std::vector<wire::ChunkName> names_of(const std::vector<ChunkId>& ids) {
    std::vector<wire::ChunkName> names;
    names.reserve(ids.size());
    for (const ChunkId& id : ids) names.push_back(name_of(id));
    return names;
}

template <typename Vector>
std::vector<ChunkId> ids_of(const Vector* names) {
    if (names == nullptr) return {};
    std::vector<ChunkId> ids(names->size());
    if (!ids.empty()) std::memcpy(ids.data(), names->Data(), ids.size() * sizeof(ChunkId));
    return ids;
}

bool all_full(const std::vector<std::uint16_t>& lengths_bytes) {
    return std::ranges::all_of(lengths_bytes, [](std::uint16_t length_bytes) {
        return length_bytes == ChunkStore::kMaxChunkBytes;
    });
}

std::size_t text_limit(const std::string& text) { return std::min<std::size_t>(text.size(), 1024); }

}  // namespace

namespace wire_tables {

flatbuffers::Offset<wire::Refusal> refusal_of(flatbuffers::FlatBufferBuilder& builder,
                                              const Error& why) {
    const std::string message = why.message();
    const auto text = builder.CreateString(message.data(), text_limit(message));
    return wire::CreateRefusal(builder, static_cast<std::uint8_t>(static_cast<int>(why.code()) + 1),
                               text);
}

Status status_of(const wire::Refusal* refusal) {
    if (refusal == nullptr) return {};
    const std::string text = refusal->text() == nullptr ? "refused" : refusal->text()->str();
    const int code = refusal->code() - 1;
    const bool known = code >= 0 && code <= static_cast<int>(Code::kIo);
    return fail(known ? static_cast<Code>(code) : Code::kUnavailable, text);
}

}  // namespace wire_tables

Bytes encode_chunk_request(const ChunkRequest& request) {
    PPDSM_CHECK(request.names.size() <= kMaxNamesPerRequest);
    flatbuffers::FlatBufferBuilder builder(request.names.size() * sizeof(ChunkId) + 256);
    const auto vc = builder.CreateString(request.vc);
    const auto names = builder.CreateVectorOfStructs(names_of(request.names));
    return wire_tables::finish(builder,
                               wire::CreateChunkRequest(builder, vc, request.generation, names));
}

Result<ChunkRequest> decode_chunk_request(ByteView payload) {
    PPDSM_ASSIGN(const wire::ChunkRequest* const table,
                 wire_tables::verified<wire::ChunkRequest>(payload, "ChunkRequest"));
    const std::size_t count = table->names()->size();
    if (count == 0 || count > kMaxNamesPerRequest) {
        return fail(Code::kInvalid, "ChunkRequest: asks for " + std::to_string(count) +
                                        " chunks instead of 1 to " +
                                        std::to_string(kMaxNamesPerRequest));
    }
    return ChunkRequest{table->vc()->str(), table->generation(), ids_of(table->names())};
}

Bytes encode_manifest_request(const ManifestRequest& request) {
    flatbuffers::FlatBufferBuilder builder(256);
    const auto vc = builder.CreateString(request.vc);
    const wire::ChunkName name = name_of(request.manifest_name);
    return wire_tables::finish(builder, wire::CreateManifestRequest(builder, vc, request.generation,
                                                                    &name, request.offset_bytes));
}

Result<ManifestRequest> decode_manifest_request(ByteView payload) {
    PPDSM_ASSIGN(const wire::ManifestRequest* const table,
                 wire_tables::verified<wire::ManifestRequest>(payload, "ManifestRequest"));
    return ManifestRequest{table->vc()->str(), table->generation(), id_of(*table->manifest_name()),
                           table->offset_bytes()};
}

bool BatchWriter::add(StoredBlock block) {
    const std::size_t lengths_bytes =
        all_full(block.lengths_bytes) ? 0 : block.lengths_bytes.size() * sizeof(std::uint16_t);
    const std::size_t cost_bytes = block.stored.size() + lengths_bytes + kBlockBytes;
    if (cost_bytes > room_bytes()) return false;
    used_bytes_ += cost_bytes;
    blocks_.push_back(std::move(block));
    return true;
}

bool BatchWriter::add_missing(const ChunkId& id) {
    if (sizeof id > room_bytes()) return false;
    used_bytes_ += sizeof id;
    missing_.push_back(id);
    return true;
}

ChunkBatch BatchWriter::finish() const {
    flatbuffers::FlatBufferBuilder builder(used_bytes_);
    std::vector<flatbuffers::Offset<wire::ChunkBlock>> blocks;
    blocks.reserve(blocks_.size());
    for (const StoredBlock& block : blocks_) {
        const auto stored = builder.CreateVector(block.stored);
        flatbuffers::Offset<flatbuffers::Vector<std::uint16_t>> lengths;
        if (!all_full(block.lengths_bytes)) lengths = builder.CreateVector(block.lengths_bytes);
        blocks.push_back(wire::CreateChunkBlock(builder, static_cast<std::uint8_t>(block.method),
                                                block.raw_bytes, lengths, stored));
    }
    const auto all = builder.CreateVector(blocks);
    const auto missing = builder.CreateVectorOfStructs(names_of(missing_));
    ChunkBatch batch{wire_tables::finish(builder, wire::CreateChunkBatch(builder, all, missing))};
    PPDSM_CHECK(batch.payload.size() <= kMaxChunkMessageBytes);
    return batch;
}

ChunkBatch refuse_request(const Error& why) {
    flatbuffers::FlatBufferBuilder builder(256);
    const auto refusal = wire_tables::refusal_of(builder, why);
    return {wire_tables::finish(builder, wire::CreateChunkBatch(builder, 0, 0, refusal))};
}

ManifestPiece make_manifest_piece(std::uint64_t offset_bytes, ByteView content) {
    PPDSM_CHECK(content.size() <= kManifestPieceBytes);
    flatbuffers::FlatBufferBuilder builder(content.size() + 256);
    const auto bytes = builder.CreateVector(content.data(), content.size());
    return {wire_tables::finish(builder, wire::CreateManifestPiece(builder, offset_bytes, bytes))};
}

ManifestPiece refuse_manifest(const Error& why) {
    flatbuffers::FlatBufferBuilder builder(256);
    const auto refusal = wire_tables::refusal_of(builder, why);
    return {wire_tables::finish(builder, wire::CreateManifestPiece(builder, 0, 0, refusal))};
}

namespace {

Result<StoredBlockView> read_block(const wire::ChunkBlock& table) {
    StoredBlockView block;
    if (table.method() > static_cast<std::uint8_t>(pack::Method::kLz4)) {
        return fail(Code::kCorrupt,
                    "ChunkBatch: no such compression: " + std::to_string(table.method()));
    }
    block.method = static_cast<pack::Method>(table.method());
    block.raw_bytes = table.raw_bytes();
    if (block.raw_bytes == 0 || block.raw_bytes > pack::kMaxBlockBytes) {
        return fail(Code::kCorrupt,
                    "ChunkBatch: a block of " + std::to_string(block.raw_bytes) + " bytes");
    }
    if (table.lengths() != nullptr) {
        block.lengths_bytes.assign(table.lengths()->begin(), table.lengths()->end());
    } else {
        constexpr auto kFull = static_cast<std::uint16_t>(ChunkStore::kMaxChunkBytes);
        block.lengths_bytes.assign(block.raw_bytes / kFull, kFull);
    }
    block.stored = ByteView(table.stored()->data(), table.stored()->size());
    return block;
}

}  // namespace

Result<BatchContent> read_batch(const ChunkBatch& batch) {
    PPDSM_ASSIGN(const wire::ChunkBatch* const table,
                 wire_tables::verified<wire::ChunkBatch>(batch.payload, "ChunkBatch"));
    PPDSM_TRY(wire_tables::status_of(table->refusal()));
    BatchContent content;
    content.missing = ids_of(table->missing());
    if (table->blocks() != nullptr) {
        for (const wire::ChunkBlock* block : *table->blocks()) {
            PPDSM_ASSIGN(StoredBlockView view, read_block(*block));
            content.blocks.push_back(std::move(view));
        }
    }
    return content;
}

Result<ManifestPieceContent> read_manifest_piece(const ManifestPiece& piece) {
    PPDSM_ASSIGN(const wire::ManifestPiece* const table,
                 wire_tables::verified<wire::ManifestPiece>(piece.payload, "ManifestPiece"));
    PPDSM_TRY(wire_tables::status_of(table->refusal()));
    ManifestPieceContent content{table->offset_bytes(), {}};
    if (table->content() != nullptr) {
        content.content = ByteView(table->content()->data(), table->content()->size());
    }
    return content;
}

}  // namespace ppdsm
