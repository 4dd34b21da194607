// FlatBuffers as this room uses them: tables of dsm/wire/chunks.fbs, verified within the bound of
// every message of this protocol. For sources only: the generated header stays out of our headers.
#pragma once

#include <string>

#include "chunks_generated.h"
#include "dsm/wire/codec.h"
#include "runtime/peer/replication/chunk_batch.h"

namespace ppdsm::wire_tables {

template <typename Table>
Bytes finish(flatbuffers::FlatBufferBuilder& builder, flatbuffers::Offset<Table> root) {
    builder.Finish(root);
    return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

/// The size is checked before the verifier runs, which stops the process on very large buffers.
template <typename Table>
Result<const Table*> verified(ByteView payload, const char* message) {
    if (payload.size() > kMaxChunkMessageBytes) {
        return fail(Code::kCorrupt, std::string(message) + ": " + std::to_string(payload.size()) +
                                        " bytes are more than it may have");
    }
    if (!is_sound_message<Table>(payload)) {
        return fail(Code::kCorrupt, std::string(message) + ": malformed");
    }
    return flatbuffers::GetRoot<Table>(payload.data());
}

inline wire::ChunkName name_of(const ChunkId& id) {
    return wire::ChunkName(flatbuffers::span<const std::uint8_t, 16>(id.bytes.data(), 16));
}
inline ChunkId id_of(const wire::ChunkName& name) {
    ChunkId id;
    std::memcpy(id.bytes.data(), name.bytes()->data(), id.bytes.size());
    return id;
}

flatbuffers::Offset<wire::Refusal> refusal_of(flatbuffers::FlatBufferBuilder& builder,
                                              const Error& why);
/// Nothing where `refusal` is null.
Status status_of(const wire::Refusal* refusal);

}  // namespace ppdsm::wire_tables
