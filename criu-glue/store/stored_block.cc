#include "criu-glue/store/stored_block.h"

#include <numeric>
#include <string>

#include "dsm/base/check.h"

namespace ppdsm {

StoredBlock compress_chunks(ByteView raw, std::vector<std::uint16_t> lengths_bytes) {
    pack::PackedBlock packed = pack::compress_block(raw);
    return {packed.method, static_cast<std::uint32_t>(raw.size()), std::move(lengths_bytes),
            std::move(packed.stored)};
}

Result<std::vector<ChunkId>> unpack_block(const StoredBlockView& block, Bytes& raw) {
    std::uint64_t sum_bytes = 0;
    for (const std::uint16_t length_bytes : block.lengths_bytes) {
        if (length_bytes == 0 || length_bytes > pack::kMaxChunkBytes) {
            return fail(Code::kCorrupt, "block: impossible chunk length");
        }
        sum_bytes += length_bytes;
    }
    if (block.raw_bytes == 0 || block.raw_bytes > pack::kMaxBlockBytes ||
        sum_bytes != block.raw_bytes) {
        return fail(Code::kCorrupt, "block: chunks do not fill it");
    }
    PPDSM_TRY(pack::decompress(block.method, block.stored, block.raw_bytes, raw));
    std::vector<ChunkId> ids;
    ids.reserve(block.lengths_bytes.size());
    std::size_t at = 0;
    for (const std::uint16_t length_bytes : block.lengths_bytes) {
        ids.push_back(ChunkId::of(ByteView(raw).subspan(at, length_bytes)));
        at += length_bytes;
    }
    return ids;
}

}  // namespace ppdsm
