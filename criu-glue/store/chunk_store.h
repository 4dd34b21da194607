// The chunk store: content-addressed pieces of at most 4 KiB, deduplicated, LZ4-compressed in
// blocks of 64 KiB, kept in immutable pack files. One store serves all generations and vthreads of
// one virtual computer; one process at a time opens it for writing (the caller holds the VC's
// lock).
//
// Durability: chunks put since the last flush() live in memory and in a pending pack; after flush()
// returns they are on disk. A kill at any instant leaves whole packs and at most one pending file,
// which the next open removes. Whether a chunk is needed is decided by the manifests alone: a
// flushed pack that no manifest names is garbage and collect_garbage() takes it.
//
// Not thread-safe: one thread at a time, but for Readers. Files in the directory that are not packs
// are left alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "criu-glue/store/chunk_id.h"
#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm {

class WorkerPool;
struct StoredBlock;
struct StoredBlockView;

using ChunkSet = std::unordered_set<ChunkId, ChunkIdHash>;

class ChunkStore {
public:
    static constexpr std::size_t kMaxChunkBytes = 4096;

    enum class Mode { kRead, kWrite };

    /// Opens (kWrite: makes) the store at `directory` and loads the packs' indices. An unreadable
    /// pack is no error here: it is listed by damaged_packs() and its chunks are absent.
    static Result<std::unique_ptr<ChunkStore>> open(const std::filesystem::path& directory,
                                                    Mode mode);
    ~ChunkStore();

    /// Keeps `content` (1..kMaxChunkBytes bytes) and returns its name; no new bytes when known.
    /// A chunk that get() or verify() found damaged counts as unknown and is stored anew.
    /// Code::kOverloaded with ENOSPC when the disk is full: call abandon() then.
    Result<ChunkId> put(ByteView content);
    /// The same for a caller that has already hashed.
    Status put(const ChunkId& id, ByteView content);
    [[nodiscard]] bool contains(const ChunkId& id) const { return length_bytes(id) != 0; }
    /// 0 when it is not stored.
    [[nodiscard]] std::size_t length_bytes(const ChunkId& id) const;

    /// Until called with nullptr, which waits for what is under way, `workers` compress the blocks.
    Status use_workers(WorkerPool* workers);

    /// Makes everything put so far durable (fsync of pack and directory). After an error:
    /// abandon().
    Status flush();
    /// Forgets everything put since the last flush().
    void abandon();

    /// Reads and verifies. kNotFound: never stored, or its pack is gone; kCorrupt: bytes differ
    /// from the name. Both name the chunk and the pack.
    Result<Bytes> get(const ChunkId& id);
    /// The same without a copy; valid until the next call of anything on this store.
    Result<ByteView> view(const ChunkId& id);

    /// Some chunks that lie in one block of a pack.
    struct BlockShare {
        std::vector<ChunkId> ids;        ///< In the order of their places.
        bool whole = false;              ///< They are all of it.
        std::uint32_t raw_bytes = 0;     ///< Of these chunks.
        std::uint32_t stored_bytes = 0;  ///< Of the whole block, compressed.
    };
    /// Sorts names by the blocks that hold them, in the packs' order; what is not flushed counts as
    /// missing. A name that is given twice counts once.
    [[nodiscard]] std::vector<BlockShare> group_by_block(std::span<const ChunkId> ids,
                                                         std::vector<ChunkId>& missing) const;
    /// The block of a flushed chunk as it lies in its pack; checked against its checksum, not
    /// against the chunks' names. `share` is a whole one of group_by_block().
    Result<StoredBlock> stored_block(const BlockShare& share);
    /// Puts all chunks of a block, whose names are `ids` and whose bytes are `raw`: unpack_block()
    /// has given both. Where none of them is known and the block is not small, it goes into the
    /// pack as it is, without being compressed anew.
    Status put_block(const StoredBlockView& block, std::span<const ChunkId> ids, ByteView raw);

    /// For a store that is open for reading beside a writer in another process: sees what that has
    /// flushed and removed since. Cheap where little has changed.
    Status refresh();

    struct Usage {
        std::uint64_t chunks = 0;
        std::uint64_t raw_bytes = 0;     ///< Before compression.
        std::uint64_t stored_bytes = 0;  ///< Readable pack files' sizes, indices included.
    };
    [[nodiscard]] Usage usage() const;
    /// Two of the same, without looking at every chunk.
    [[nodiscard]] std::uint64_t chunk_count() const;
    [[nodiscard]] std::uint64_t stored_bytes() const;
    /// Bytes that put() has added to packs (compressed, with index) since the store was opened.
    [[nodiscard]] std::uint64_t bytes_written() const;

    /// Removes packs without a chunk of `live`; rewrites packs of which less than half is live, and
    /// the smaller half of the packs when there are very many. Safe against kill -9: the new pack
    /// is durable before an old one is removed. Unreadable packs, and packs of which a live chunk
    /// cannot be read, stay as they are. kInvalid while something is put and not flushed: `live`
    /// cannot name it.
    Status collect_garbage(const ChunkSet& live);

    struct Damage {
        std::filesystem::path pack;
        std::string
            what;  ///< "block at 4096: 3 chunks differ from their names", "footer missing" ...
        std::vector<ChunkId> chunks;
    };
    /// Reads every byte of every pack. `progress` gets (bytes done, bytes in all), may be empty.
    Result<std::vector<Damage>> verify(
        const std::function<void(std::uint64_t, std::uint64_t)>& progress);
    [[nodiscard]] const std::vector<Damage>& damaged_packs() const;

    /// Reads as view() does, with a cache of its own: several readers may work at once, one thread
    /// each, while nothing else is asked of the store. Finds what is flushed; remembers no damage.
    class Reader {
    public:
        explicit Reader(const ChunkStore& store);
        Reader(const Reader&) = delete;
        Reader& operator=(const Reader&) = delete;
        ~Reader();
        Result<ByteView> view(const ChunkId& id);

    private:
        struct State;
        std::unique_ptr<State> state_;
    };

private:
    struct Impl;
    explicit ChunkStore(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ppdsm
