// The inside of ChunkStore, shared by its two sources: daily use and upkeep (garbage, verify).
#pragma once

#include <sys/stat.h>

#include <string>
#include <utility>

#include "criu-glue/store/block_reader.h"
#include "criu-glue/store/chunk_index.h"
#include "criu-glue/store/chunk_store.h"
#include "criu-glue/store/pack_format.h"
#include "criu-glue/store/pack_writer.h"

namespace ppdsm {

struct ChunkStore::Impl {
    // Of the 1024 descriptors that a process has by default; there are at most 16 Readers.
    static constexpr std::size_t kMostOpenPacks = 64;
    static constexpr std::size_t kMostOpenPacksOfReader = 16;

    struct Pack {
        std::filesystem::path path;
        std::uint64_t size_bytes = 0;
        std::vector<pack::Block> blocks;
        /// Of the file that was read: a writer may give a removed pack's name to another.
        std::uint64_t inode = 0;
        std::int64_t modified_ns = 0;
    };
    struct LoadedPack {
        Pack pack;
        pack::Index contents;
    };

    // Daily use: chunk_store.cc.
    Status load_packs();
    /// The packs in the directory by number, ascending.
    Result<std::vector<std::uint64_t>> list_packs();
    [[nodiscard]] std::filesystem::path pack_path(std::uint64_t sequence) const;
    static Result<LoadedPack> load_pack(const std::filesystem::path& path);
    /// Of chunks that are known already the place before counts, or this one.
    void add_pack_entries(std::uint32_t pack, const pack::Index& contents, bool replace);
    Status check_writable(const char* operation) const;
    PackWriter& pending();
    /// Appends to the pending pack and remembers the old place for abandon().
    Status move_entry(ChunkIndex::Number entry, ByteView content);
    Status flush_pending(bool count_as_written);
    void abandon_pending();
    Result<ByteView> view(const ChunkId& id);
    Status read_flushed(BlockReader& with, const ChunkPlace& place, Bytes& raw,
                        Bytes& scratch) const;
    [[nodiscard]] Error not_found(const ChunkId& id) const;
    [[nodiscard]] Error misnamed(const ChunkId& id, std::uint32_t pack) const;
    void mark_block_damaged(const ChunkPlace& place);
    [[nodiscard]] std::string pack_name(std::uint32_t pack) const;

    // What another process writes: chunk_store_blocks.cc.
    static bool is_unchanged(const Pack& pack);
    static std::int64_t modified_ns(const struct stat& status);

    // Upkeep: chunk_store_upkeep.cc.
    struct Plan {
        std::vector<bool> dead;
        std::vector<bool> rewrite;
    };
    [[nodiscard]] Plan plan_garbage(const ChunkSet& live) const;
    /// Moves the live chunks of `pack` into the pending pack. False: one cannot be read.
    Result<bool> rewrite_pack(std::uint32_t pack, const ChunkSet& live);
    Status remove_packs(const std::vector<bool>& remove);
    /// Drops packs, whose files are gone, from the tables.
    void forget_packs(const std::vector<bool>& gone);
    void verify_pack(std::uint32_t pack, std::vector<Damage>& found,
                     const std::function<void(std::uint64_t)>& advance);
    [[nodiscard]] std::vector<ChunkId> chunks_of(std::uint32_t pack) const;

    std::filesystem::path directory;
    Mode mode = Mode::kRead;
    ChunkIndex index;
    std::size_t flushed_entries = 0;
    std::vector<Pack> packs;  ///< Oldest first.
    std::vector<Damage> damaged;
    std::uint64_t next_sequence = 1;
    WorkerPool* workers = nullptr;
    BlockReader reader{kMostOpenPacks};
    std::uint64_t bytes_written = 0;
    /// Flushed entries that moved to the pending pack, with where they were.
    std::vector<std::pair<ChunkIndex::Number, ChunkPlace>> moved;
    std::unique_ptr<PackWriter> writer;  ///< Empty: nothing is pending. Refers to `index`.
};

}  // namespace ppdsm
