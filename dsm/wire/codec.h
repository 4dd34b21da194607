// Messages as FlatBuffers tables, through the object API that flatc generates: `Foo` is the table,
// `FooT` the plain struct.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <memory>
#include <string>

#include "dsm/base/files.h"
#include "dsm/base/result.h"
#include "dsm/base/table_bounds.h"

namespace ppdsm {

inline constexpr flatbuffers::uoffset_t kMaxTables = 200'000;
inline constexpr flatbuffers::uoffset_t kMaxDepth = 16;

template <typename Table>
[[nodiscard]] Bytes encode_message(const typename Table::NativeTableType& message) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(Table::Pack(builder, &message));
    return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

/// Whether every field may be read, and takes no more memory than came. The frame's cap keeps
/// `bytes` far below what the verifier can take.
template <typename Table>
[[nodiscard]] bool is_sound_message(ByteView bytes) {
    flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kMaxDepth, kMaxTables);
    if (bytes.size() < sizeof(flatbuffers::uoffset_t) || !verifier.VerifyBuffer<Table>(nullptr)) {
        return false;
    }
    return names_all_once(*flatbuffers::GetRoot<flatbuffers::Table>(bytes.data()),
                          *Table::MiniReflectTypeTable(), bytes.size());
}

/// Verifies before it reads.
template <typename Table>
[[nodiscard]] Result<typename Table::NativeTableType> decode_message(ByteView bytes) {
    if (!is_sound_message<Table>(bytes)) {
        return fail(Code::kCorrupt,
                    std::string(Table::GetFullyQualifiedName()) + ": not a sound message");
    }
    typename Table::NativeTableType message;
    flatbuffers::GetRoot<Table>(bytes.data())->UnPackTo(&message);
    return message;
}

}  // namespace ppdsm
