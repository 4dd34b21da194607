// A peer that chunks can be had from. The daemon makes one of a link; ChunkServer is one within the
// process.
#pragma once

#include <functional>
#include <string>

#include "runtime/peer/replication/chunk_batch.h"

namespace ppdsm {

/// On the loop's thread. Each request is answered once, never from within the call itself, unless
/// the source is destroyed first. An error says that this source is of no more use to the pull:
/// link closed (kUnavailable), generation gone (kNotFound), ...
class ChunkSource {
public:
    using OnBatch = std::function<void(Result<ChunkBatch>)>;
    using OnPiece = std::function<void(Result<ManifestPiece>)>;

    ChunkSource() = default;
    ChunkSource(const ChunkSource&) = delete;
    ChunkSource& operator=(const ChunkSource&) = delete;
    virtual ~ChunkSource() = default;

    /// For errors and logs: the peer's id.
    [[nodiscard]] virtual std::string name() const = 0;
    virtual void request(ChunkRequest request, OnBatch answer) = 0;
    virtual void request_manifest(ManifestRequest request, OnPiece answer) = 0;
    /// Nothing more of the generation is wanted from here.
    virtual void end(const std::string& vc, std::uint64_t generation) = 0;
};

}  // namespace ppdsm
