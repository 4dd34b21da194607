// The bytes of a pack file: blocks of chunks, an index, a footer. criu-glue/IMAGE.md is the
// grammar. Every byte is under one of four checksums (header, block, index, footer), so that any
// change is found without decompressing; every count is checked against the file's size before it
// is used.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "criu-glue/store/chunk_id.h"
#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm::pack {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kHeaderBytes = 24;
inline constexpr std::size_t kBlockEntryBytes = 24;
inline constexpr std::size_t kChunkEntryBytes = 18;  ///< Name and length.
inline constexpr std::size_t kFooterBytes = 64;
inline constexpr std::size_t kMaxBlockBytes = std::size_t{64} << 10;  ///< Before compression.
inline constexpr std::size_t kMaxChunkBytes = 4096;

enum class Method : std::uint8_t { kRaw = 0, kLz4 = 1 };

struct Block {
    std::uint64_t offset_bytes = 0;  ///< In the pack. Not stored: blocks follow one another.
    std::uint64_t checksum = 0;      ///< XXH3-64 of the stored bytes.
    std::uint32_t stored_bytes = 0;
    std::uint32_t raw_bytes = 0;
    std::uint32_t chunk_count = 0;
    Method method = Method::kRaw;
};

/// The pack's table of contents: chunks in the order in which they lie in their blocks.
struct Index {
    std::vector<Block> blocks;
    std::vector<ChunkId> names;
    std::vector<std::uint16_t> lengths_bytes;
    std::uint64_t pack_bytes = 0;
};

/// A block as it will lie in the pack.
struct PackedBlock {
    Bytes stored;
    std::uint64_t checksum = 0;
    Method method = Method::kRaw;
};

[[nodiscard]] std::array<std::uint8_t, kHeaderBytes> encode_header();
/// Index and footer, to be written behind the last block. Sets index.pack_bytes.
[[nodiscard]] Bytes encode_tail(Index& index);

/// Reads header, footer and index of an open pack; checks all of them. The error does not name the
/// file. kUnsupported: the pack is of a newer version.
Result<Index> load(const OwnedFd& fd);

/// LZ4, or the bytes as they are where that saves less than a sixteenth.
[[nodiscard]] PackedBlock compress_block(ByteView raw);
/// XXH3-64 of a block's stored bytes.
[[nodiscard]] std::uint64_t block_checksum(ByteView stored);
/// `stored` must decompress to exactly `raw_bytes`, at most kMaxBlockBytes.
Status decompress(Method method, ByteView stored, std::uint32_t raw_bytes, Bytes& raw);
/// Reads one block as it lies in the pack, and checks it against its checksum.
Status read_stored(const OwnedFd& fd, const Block& block, Bytes& stored);
/// Reads and decompresses one block into `raw`; `scratch` spares an allocation.
Status read_block(const OwnedFd& fd, const Block& block, Bytes& raw, Bytes& scratch);

static_assert(std::endian::native == std::endian::little,
              "numbers on disk are little-endian and copied as they are");
template <typename Number>
void append_number(Bytes& out, Number number) {
    std::array<std::uint8_t, sizeof number> bytes;
    std::memcpy(bytes.data(), &number, sizeof number);
    out.insert(out.end(), bytes.begin(), bytes.end());
}
template <typename Number>
[[nodiscard]] Number number_at(ByteView bytes, std::size_t offset_bytes) {
    Number number{};
    std::memcpy(&number, bytes.data() + offset_bytes, sizeof number);
    return number;
}

}  // namespace ppdsm::pack
