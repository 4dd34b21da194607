// A replica of one virtual computer's generations: a directory with the layout of VcPaths (chunks/,
// manifests/), so that an executor can go on right there. A manifest's file is the mark of a
// generation that is held completely: it is written after the chunks are durable, and removed,
// durably, before garbage is collected. open() believes it only after it has found every chunk.
//
// Whatever a pull brought before it broke off is either in whole packs, found by its name the next
// time, or gone. It is never believed complete.
//
// Blocking; for pool threads, one at a time. HostedReplica drives it from the loop's thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "criu-glue/store/chunk_store.h"
#include "runtime/peer/home.h"
#include "runtime/peer/replication/chunk_batch.h"
#include "runtime/peer/replication/generation_offer.h"

namespace ppdsm {

struct HeldGeneration {
    std::uint64_t epoch = 0;
    ChunkId manifest_name;
    std::uint64_t bytes_total = 0;  ///< Of its blobs.
    std::uint64_t manifest_bytes = 0;

    bool operator==(const HeldGeneration&) const = default;
};

class ReplicaStore {
public:
    /// Makes the directory if need be and takes the VC's lock: kUnavailable while an executor or
    /// another ReplicaStore has it.
    static Result<std::unique_ptr<ReplicaStore>> open(const VcPaths& paths);
    ~ReplicaStore();
    ReplicaStore(const ReplicaStore&) = delete;
    ReplicaStore& operator=(const ReplicaStore&) = delete;

    /// Complete and durable ones, by number.
    [[nodiscard]] const std::map<std::uint64_t, HeldGeneration>& held() const;
    [[nodiscard]] bool holds(std::uint64_t generation, const ChunkId& manifest_name) const;

    struct Usage {
        std::uint64_t chunks = 0;
        std::uint64_t stored_bytes = 0;  ///< Packs and manifests.
    };
    [[nodiscard]] Usage usage() const;

    /// Begins to pull; one at a time. True: it is held already, there is nothing to do. The
    /// manifest must be whole and have the offer's name (kCorrupt), be the VC's (kInvalid), and not
    /// stand in for a generation of the same number and a later epoch (kStaleEpoch).
    Result<bool> begin(const GenerationOffer& offer, ByteView manifest);
    [[nodiscard]] bool pulling() const;
    /// Names to ask a source for; see ChunkPull::next_request.
    Result<std::vector<ChunkId>> next_request(std::size_t most);
    struct Accepted {
        /// kCorrupt: not a batch, or bytes that were not asked for. Else the source's refusal.
        Status answer;
        std::size_t came = 0;          ///< Chunks of `asked` that are here now.
        std::vector<ChunkId> lacking;  ///< The source says so. Not asked for until ask_again().
    };
    /// Verifies and keeps what came for `asked`; blocks before a wrong one are kept. What did not
    /// come is asked for again by next_request(), but for `lacking`. Errors are our own:
    /// kOverloaded, the disk is full; call break_off().
    Result<Accepted> accept(const std::vector<ChunkId>& asked, const ChunkBatch& batch);
    /// The source that had been asked is gone.
    void ask_again(const std::vector<ChunkId>& asked);
    [[nodiscard]] bool complete() const;
    /// What a pull that is killed may have to fetch again; more often costs more packs.
    void flush_every(std::uint64_t stored_bytes);
    /// Makes chunks, then manifest durable: the generation is held. complete() must be true.
    Result<PullReport> finish();
    /// Gives up. Keeps what came, for the next try; after a full disk drops it instead.
    void break_off(const Error& why);

    /// Forgets generations, durably, and collects garbage. Those not held are ignored.
    Status drop(const std::vector<std::uint64_t>& generations);
    /// Removes what no held generation needs; generations that prove damaged are held no more.
    /// During a pull, and while somebody has pinned the generations, nothing is done and
    /// has_garbage() stays true.
    Status collect_garbage();
    [[nodiscard]] bool has_garbage() const;

private:
    struct Impl;
    explicit ReplicaStore(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ppdsm
