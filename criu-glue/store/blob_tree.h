// The shape of a blob's tree, shared by its writer and its readers. Level 0 is the leaves; a node
// of level k covers 16^k leaves; the root is the first level that has only one node, so that the
// shape follows from the size alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "criu-glue/store/blob.h"

namespace ppdsm::blob_tree {

inline constexpr std::uint64_t kLeafBytes = ChunkStore::kMaxChunkBytes;
inline constexpr unsigned kFanOutBits = 4;
inline constexpr std::size_t kFanOut = std::size_t{1} << kFanOutBits;
inline constexpr unsigned kMaxHeight = 9;  ///< 16^9 leaves are kMaxBlobBytes.

static_assert((kLeafBytes << (kFanOutBits * kMaxHeight)) == kMaxBlobBytes);

[[nodiscard]] constexpr std::uint64_t covered_bytes(unsigned level) {
    return kLeafBytes << (kFanOutBits * level);
}
[[nodiscard]] constexpr std::uint64_t leaves_of(std::uint64_t size_bytes) {
    return size_bytes / kLeafBytes + (size_bytes % kLeafBytes != 0 ? 1 : 0);
}
/// The root's level; size_bytes is at least 1 and at most kMaxBlobBytes.
[[nodiscard]] constexpr unsigned height_of(std::uint64_t size_bytes) {
    unsigned level = 0;
    while (covered_bytes(level) < size_bytes) ++level;
    return level;
}
/// Children of the node of `level` that begins at `offset_bytes`.
[[nodiscard]] constexpr std::size_t children_of(std::uint64_t size_bytes, unsigned level,
                                                std::uint64_t offset_bytes) {
    const std::uint64_t child_bytes = covered_bytes(level - 1);
    const std::uint64_t left_bytes = size_bytes - offset_bytes;
    return static_cast<std::size_t>(
        std::min<std::uint64_t>(kFanOut, (left_bytes + child_bytes - 1) / child_bytes));
}

}  // namespace ppdsm::blob_tree
