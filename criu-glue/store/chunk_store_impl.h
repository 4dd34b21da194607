// The inside of ChunkStore, shared by its two sources: daily use and upkeep (garbage, verify).
#pragma once

#include <array>
#include <string>
#include <utility>

#include "criu-glue/store/chunk_index.h"
#include "criu-glue/store/chunk_store.h"
#include "criu-glue/store/pack_format.h"
#include "criu-glue/store/pack_writer.h"

namespace ppdsm {

/// The last few decompressed blocks: reading a blob from its start visits one block of pages and
/// one of nodes a level over and over.
class BlockCache {
public:
    struct Slot {
        std::uint32_t pack = 0;
        std::uint32_t block = 0;
        std::uint64_t used = 0;  ///< 0: empty.
        Bytes raw;
    };
    [[nodiscard]] Slot* find(std::uint32_t pack, std::uint32_t block);
    /// The slot used least lately, emptied: fill raw, then call hold().
    [[nodiscard]] Slot& oldest();
    void hold(Slot& slot, std::uint32_t pack, std::uint32_t block);
    void clear();

private:
    std::array<Slot, 16> slots_;
    std::uint64_t clock_ = 0;
};

struct ChunkStore::Impl {
    struct Pack {
        std::filesystem::path path;
        std::uint64_t size_bytes = 0;
        std::vector<pack::Block> blocks;
        OwnedFd fd;  ///< Opened on demand; see open_pack().
    };

    // Daily use: chunk_store.cc.
    Status load_packs();
    void add_pack_entries(std::uint32_t pack, const pack::Index& contents);
    Status check_writable(const char* operation) const;
    PackWriter& pending();
    /// Appends to the pending pack and remembers the old place for abandon().
    Status move_entry(ChunkIndex::Number entry, ByteView content);
    Status flush_pending(bool count_as_written);
    void abandon_pending();
    Result<const OwnedFd*> open_pack(Pack& pack);
    /// A decompressed block, from the cache or through it.
    Result<const Bytes*> load_block(std::uint32_t pack, std::uint32_t block);
    Result<ByteView> view(const ChunkId& id);
    void mark_block_damaged(const ChunkPlace& place);
    [[nodiscard]] std::string pack_name(std::uint32_t pack) const;

    // Upkeep: chunk_store_upkeep.cc.
    struct Plan {
        std::vector<bool> dead;
        std::vector<bool> rewrite;
    };
    [[nodiscard]] Plan plan_garbage(const ChunkSet& live) const;
    /// Moves the live chunks of `pack` into the pending pack. False: one cannot be read.
    Result<bool> rewrite_pack(std::uint32_t pack, const ChunkSet& live);
    Status remove_packs(const std::vector<bool>& remove);
    void verify_pack(std::uint32_t pack, std::vector<Damage>& found,
                     const std::function<void(std::uint64_t)>& advance);
    [[nodiscard]] std::vector<ChunkId> chunks_of(std::uint32_t pack) const;

    std::filesystem::path directory;
    Mode mode = Mode::kRead;
    ChunkIndex index;
    std::size_t flushed_entries = 0;
    std::vector<Pack> packs;  ///< Oldest first.
    std::size_t open_packs = 0;
    std::vector<Damage> damaged;
    std::uint64_t next_sequence = 1;
    WorkerPool* workers = nullptr;
    BlockCache cache;
    Bytes scratch;
    std::uint64_t bytes_written = 0;
    /// Flushed entries that moved to the pending pack, with where they were.
    std::vector<std::pair<ChunkIndex::Number, ChunkPlace>> moved;
    std::unique_ptr<PackWriter> writer;  ///< Empty: nothing is pending. Refers to `index`.
};

}  // namespace ppdsm
