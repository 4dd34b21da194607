// Messages as FlatBuffers tables, through the object API that flatc generates: `Foo` is the table,
// `FooT` the plain struct.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <memory>
#include <string>

#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm {

inline constexpr flatbuffers::uoffset_t kMaxTables = 200'000;
inline constexpr flatbuffers::uoffset_t kMaxDepth = 16;

template <typename Table>
[[nodiscard]] Bytes encode_message(const typename Table::NativeTableType& message) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(Table::Pack(builder, &message));
    return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

/// Verifies before it reads; the frame's cap keeps `bytes` far below what the verifier can take.
template <typename Table>
[[nodiscard]] Result<typename Table::NativeTableType> decode_message(ByteView bytes) {
    flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kMaxDepth, kMaxTables);
    if (bytes.size() < sizeof(flatbuffers::uoffset_t) || !verifier.VerifyBuffer<Table>(nullptr)) {
        return fail(Code::kCorrupt,
                    std::string(Table::GetFullyQualifiedName()) + ": not a sound message");
    }
    typename Table::NativeTableType message;
    flatbuffers::GetRoot<Table>(bytes.data())->UnPackTo(&message);
    return message;
}

}  // namespace ppdsm
