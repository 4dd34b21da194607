// A blob: bytes of any length as a Merkle tree of chunks. Leaves are 4-KiB pieces of the content (the
// last may be shorter), inner nodes are chunks that list up to 16 names of the level below. Equal
// content has an equal root; a blob of which few pages changed shares nearly all its nodes with the
// one before: at 1 % of randomly changed pages the nodes add about a tenth of what the pages add.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "criu-glue/store/chunk_store.h"

namespace ppdsm {

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
    ~BlobWriter();
    Status append(ByteView content);
    Result<BlobRef> finish();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Stores a whole file or part of one. `fd` is read with pread from 0 to its end; sparse files are
/// read as zeros.
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
Status write_blob_to(ChunkStore& store, const BlobRef& blob, const OwnedFd& fd);

/// Adds every chunk of the blob, nodes included, to `live`. Subtrees already in `live` are skipped.
Status mark_blob(ChunkStore& store, const BlobRef& blob, ChunkSet& live);
/// Like mark_blob, but reads leaves too and reports each chunk that is missing or wrong.
Status check_blob(ChunkStore& store, const BlobRef& blob,
                  const std::function<void(const ChunkId&, const Error&)>& report);
/// How many 4-KiB leaves at equal offsets differ; equal subtrees are not read.
Result<std::uint64_t> count_changed_leaves(ChunkStore& store, const BlobRef& a, const BlobRef& b);

}  // namespace ppdsm
