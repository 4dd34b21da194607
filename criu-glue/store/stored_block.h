// A block of a pack on its own: chunks one after another, compressed together. So it travels from
// one store to another without being compressed anew.
#pragma once

#include <cstdint>
#include <vector>

#include "criu-glue/store/chunk_id.h"
#include "criu-glue/store/pack_format.h"

namespace ppdsm {

struct StoredBlockView {
    pack::Method method = pack::Method::kRaw;
    std::uint32_t raw_bytes = 0;
    std::vector<std::uint16_t> lengths_bytes;  ///< Of the chunks, in order.
    ByteView stored;
};

struct StoredBlock {
    pack::Method method = pack::Method::kRaw;
    std::uint32_t raw_bytes = 0;
    std::vector<std::uint16_t> lengths_bytes;
    Bytes stored;

    [[nodiscard]] StoredBlockView view() const {
        return {method, raw_bytes, lengths_bytes, ByteView(stored)};
    }
};

/// Compresses `raw`, of which `lengths_bytes` are the chunks.
[[nodiscard]] StoredBlock compress_chunks(ByteView raw, std::vector<std::uint16_t> lengths_bytes);

/// Decompresses into `raw` and returns the chunks' names, computed from their bytes. kCorrupt: no
/// block that a pack could hold. Allocates no more than a block's 64 KiB, whatever it says.
Result<std::vector<ChunkId>> unpack_block(const StoredBlockView& block, Bytes& raw);

}  // namespace ppdsm
