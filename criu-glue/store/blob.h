// A blob: bytes of any length as a Merkle tree of chunks. Leaves are 4-KiB pieces of the content
// (the last may be shorter), inner nodes are chunks that list up to 16 names of the level below.
// Equal content has an equal root; a blob of which few pages changed shares nearly all its nodes
// with the one before: at 1 % of randomly changed pages the nodes add about a tenth of what the
// pages add.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "criu-glue/store/chunk_store.h"

namespace ppdsm {

/// 256 TiB: a tree of height 9. Larger sizes in a manifest are corrupt.
inline constexpr std::uint64_t kMaxBlobBytes = std::uint64_t{1} << 48;

struct BlobRef {
    std::uint64_t size_bytes = 0;
    ChunkId root;  ///< All zero for the empty blob.

    bool operator==(const BlobRef&) const = default;
};

/// Appends content and builds the tree on the way; memory: one node a level.
class BlobWriter {
public:
    explicit BlobWriter(ChunkStore& store);
    BlobWriter(BlobWriter&&) noexcept;
    BlobWriter& operator=(BlobWriter&&) = delete;
    BlobWriter(const BlobWriter&) = delete;
    BlobWriter& operator=(const BlobWriter&) = delete;
    ~BlobWriter();
    Status append(ByteView content);
    /// The same for a caller that has hashed each 4-KiB piece, the last one perhaps shorter. All
    /// that was appended before must have been whole pieces.
    Status append_hashed(std::span<const ChunkId> leaves, ByteView content);
    Result<BlobRef> finish();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Stores a whole regular file: `fd` is read with pread from 0 to its size at the call; holes are
/// read as zeros. kUnavailable when it shrinks meanwhile. Content over 8 MiB is hashed and
/// compressed by threads that live as long as the call; what is stored does not depend on them.
Result<BlobRef> store_file(ChunkStore& store, const OwnedFd& fd);
Result<BlobRef> store_bytes(ChunkStore& store, ByteView content);

/// Calls `sink(offset_bytes, piece)` for the blob's leaves in order, each verified.
Status read_blob(ChunkStore& store, const BlobRef& blob,
                 const std::function<Status(std::uint64_t, ByteView)>& sink);
/// Random access: `into.size()` bytes from `offset_bytes`.
Status read_blob_range(ChunkStore& store, const BlobRef& blob, std::uint64_t offset_bytes,
                       std::span<std::uint8_t> into);
Result<Bytes> load_blob(ChunkStore& store, const BlobRef& blob, std::uint64_t limit_bytes);
/// Writes the blob into `fd` from offset 0; runs of zero pages become holes; sets the file's size.
/// What the file held before is dropped. After an error its content is undefined. Content over
/// 8 MiB is read and written by threads that live as long as the call.
Status write_blob_to(ChunkStore& store, const BlobRef& blob, const OwnedFd& fd);

/// Adds every chunk of the blob, nodes included, to `live`, and for each node one name of no chunk
/// that says "marked with all below". Subtrees so marked are skipped. Leaves are not read.
Status mark_blob(ChunkStore& store, const BlobRef& blob, ChunkSet& live);
/// Walks like mark_blob, but reads leaves too and reports each chunk that is missing or wrong; the
/// call itself then still succeeds.
Status check_blob(ChunkStore& store, const BlobRef& blob,
                  const std::function<void(const ChunkId&, const Error&)>& report);

}  // namespace ppdsm
