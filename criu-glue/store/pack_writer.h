// One pack in the making. Chunks gather in open blocks; a full block is compressed (by workers
// where there are any) and written in the order in which it was filled, so that equal input makes
// equal packs. Full-size chunks and short ones gather apart: the short ones are mostly the inner
// nodes of blobs, and marking what is live then reads few blocks instead of all.
//
// A write that failed stays failed: every later call returns the same error, until the writer is
// destroyed, which removes the pending file.
#pragma once

#include <array>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "criu-glue/store/chunk_index.h"
#include "criu-glue/store/pack_format.h"
#include "criu-glue/store/worker_pool.h"

namespace ppdsm {

class PackWriter {
public:
    static constexpr std::uint32_t kPendingPack = 0xFFFFFFFF;  ///< ChunkPlace::pack of our chunks.

    /// Writes nothing before the first block is full. `index` outlives the writer.
    PackWriter(std::filesystem::path path, ChunkIndex& index);
    PackWriter(const PackWriter&) = delete;
    PackWriter& operator=(const PackWriter&) = delete;
    ~PackWriter();

    /// Adds a chunk and sets its entry's place.
    Status append(ChunkIndex::Number entry, ByteView content);
    /// Adds a block that is compressed already; sets its entries' places. `raw` is what it
    /// decompresses to, `entries` and `lengths_bytes` are its chunks in their order.
    Status append_block(std::span<const ChunkIndex::Number> entries,
                        std::span<const std::uint16_t> lengths_bytes, ByteView raw,
                        pack::PackedBlock packed);
    /// nullptr: compresses in the calling thread; waits for the blocks that are under way.
    Status use_workers(WorkerPool* workers);
    /// Writes all that is left and makes the pack durable under its name.
    Result<pack::Index> finish();

    /// A chunk's bytes if its block is not yet written; valid until the next call of append().
    [[nodiscard]] std::optional<ByteView> in_memory(const ChunkPlace& place) const;
    /// Reads a written block.
    Status read_block(std::uint32_t block, Bytes& raw, Bytes& scratch) const;
    [[nodiscard]] std::uint64_t written_bytes() const { return end_bytes_; }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    /// ChunkPlace::block of a chunk whose block has no number yet: kOpenBlock + stream.
    static constexpr std::uint32_t kOpenBlock = 0xFFFFFFF0;
    struct OpenBlock {
        Bytes raw;
        std::vector<ChunkIndex::Number> entries;
    };
    struct FullBlock {
        Bytes raw;
        std::uint32_t chunk_count = 0;
        pack::PackedBlock packed;
        std::shared_ptr<WorkerPool::Job> job;  ///< Empty: compressed already.
    };

    Status seal(OpenBlock& open);
    Status write_oldest();
    Status write_all_full();
    Status create_file();

    std::filesystem::path path_;
    ChunkIndex& index_;
    WorkerPool* workers_ = nullptr;
    std::optional<PendingFile> file_;
    std::array<OpenBlock, 2> open_;
    std::deque<std::unique_ptr<FullBlock>> full_;
    std::vector<pack::Block> blocks_;  ///< Written ones.
    std::vector<ChunkIndex::Number> order_;
    std::uint64_t end_bytes_ = 0;
    Status state_;
};

}  // namespace ppdsm
