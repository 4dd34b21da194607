// Which chunks of a generation a store lacks: a walk down the Merkle trees of the manifest's blobs.
// Pure but for the lookups that it is given: no I/O, clock or thread.
//
//   add_blobs(manifest) -> next_request() -> arrived(names) -> next_request() ... -> done()
//
// A subtree is skipped only where a generation that is held completely has the same one at the same
// place of the same blob, or where this walk has been through it before. Elsewhere a node that is
// present is read and descended: that it is present says nothing of what is below, since garbage is
// collected pack by pack.
//
// Memory is bounded whatever the image's size: at most kMaxNodes nodes are waited for and
// kMaxLeaves leaves known at a time; the walk rests until some have come.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "criu-glue/manifest/manifest.h"
#include "criu-glue/store/blob.h"

namespace ppdsm {

/// What the walk asks of the store that shall have the generation.
class ChunkLookup {
public:
    ChunkLookup() = default;
    ChunkLookup(const ChunkLookup&) = delete;
    ChunkLookup& operator=(const ChunkLookup&) = delete;
    virtual ~ChunkLookup() = default;
    /// 0: absent.
    [[nodiscard]] virtual std::size_t length_bytes(const ChunkId& id) const = 0;
    /// Verified; valid until the next call. An error: as good as absent.
    virtual Result<ByteView> view(const ChunkId& id) = 0;
};

class ChunkPull {
public:
    static constexpr std::size_t kMaxNodes = 1024;
    static constexpr std::size_t kMaxLeaves = 8192;

    /// `base`: a generation that the store holds completely, or null. Both manifests are only read
    /// during the call. `store` outlives the pull.
    ChunkPull(ChunkLookup& store, const Manifest& manifest, const Manifest* base);
    ~ChunkPull();
    ChunkPull(const ChunkPull&) = delete;
    ChunkPull& operator=(const ChunkPull&) = delete;

    /// Up to `most` names that are lacking and not yet asked for; nodes before leaves, leaves in
    /// the order of the blobs. Empty: nothing to ask for until something arrives, or done().
    /// kCorrupt: a blob whose tree has another shape than its size demands.
    Result<std::vector<ChunkId>> next_request(std::size_t most);
    [[nodiscard]] bool expects(const ChunkId& id) const;
    /// The chunk is in the store now. kCorrupt: it has not the length that its place demands.
    /// Chunks that are not expected (any more) are ignored.
    Status arrived(const ChunkId& id, std::size_t length_bytes);
    /// Was asked for and did not come: to be asked for again, before others.
    void ask_again(const ChunkId& id);

    /// All chunks of the generation are in the store.
    [[nodiscard]] bool done() const;
    /// Names asked for and not arrived.
    [[nodiscard]] std::size_t in_flight() const;
    /// Entries that the walk holds at the moment: bounded.
    [[nodiscard]] std::size_t held_entries() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace ppdsm
