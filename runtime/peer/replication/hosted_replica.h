// A ReplicaStore as the daemon sees it: on the loop's thread, never blocking, one job at a time on
// a thread of the pool. Drives pulls: keeps several requests under way at several sources, moves
// what a source failed to give to the others, and ends when all is durable.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "dsm/io/loop.h"
#include "runtime/peer/replication/chunk_source.h"
#include "runtime/peer/replication/replica_pull.h"
#include "runtime/peer/replication/replica_store.h"

namespace ppdsm {

class HostedReplica {
public:
    template <typename T>
    using Done = std::function<void(Result<T>)>;

    HostedReplica(Loop& loop, VcPaths paths, PullOptions options);
    HostedReplica(Loop& loop, VcPaths paths)
        : HostedReplica(loop, std::move(paths), PullOptions()) {}
    /// Ends what is under way without calling back. The job that runs is waited for by nobody: it
    /// holds what it needs, the VC's lock among it, until it ends.
    ~HostedReplica();
    HostedReplica(const HostedReplica&) = delete;
    HostedReplica& operator=(const HostedReplica&) = delete;

    /// Takes the lock and finds what is held; also after release().
    void open(Done<void> done);
    /// After the pull under way has been broken off: closes the store and gives up the lock, so
    /// that an executor may start in the directory.
    void release(Done<void> done);

    /// As of the last completed call.
    [[nodiscard]] bool is_open() const;
    [[nodiscard]] const std::map<std::uint64_t, HeldGeneration>& held() const;
    [[nodiscard]] bool holds(std::uint64_t generation, const ChunkId& manifest_name) const;
    [[nodiscard]] ReplicaStore::Usage usage() const;

    /// Brings a generation here; `done` comes when chunks and manifest are on the disk. Pulls wait
    /// for one another. A manifest that is not in the offer is asked for. The sources' end() is
    /// called in every case. Errors: as of ReplicaStore; kUnavailable when no source is left, with
    /// the last one's words; kOverloaded when the disk is full, or too many pulls wait.
    void pull(GenerationOffer offer, std::vector<std::shared_ptr<ChunkSource>> sources,
              Done<PullReport> done);
    /// Another one that has the generation; ignored when it is not being pulled.
    void add_source(std::uint64_t generation, std::shared_ptr<ChunkSource> source);
    /// Breaks off the pull of that generation; its `done` gets kUnavailable.
    void cancel(std::uint64_t generation);

    void drop(std::vector<std::uint64_t> generations, Done<void> done);

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace ppdsm
