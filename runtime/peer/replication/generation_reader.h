// Reads what a writer in another process keeps in a VC's directory, and makes the messages that
// carry it. Blocking; for pool threads, one at a time. ChunkServer drives it from the loop's
// thread.
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

class GenerationReader {
public:
    /// Opens nothing yet.
    explicit GenerationReader(VcPaths paths) : paths_(std::move(paths)) {}

    /// Pins the generations, sees what has been written since, and makes the generation's offer.
    /// Each success needs an end().
    Result<GenerationOffer> begin(std::uint64_t generation);
    void end(std::uint64_t generation);
    [[nodiscard]] const std::filesystem::path& directory() const { return paths_.directory; }
    [[nodiscard]] bool serving() const { return !begun_.empty(); }
    /// Gives back the index's memory when nothing is begun.
    void close_when_idle();

    /// As many of the chunks as fit. Blocks that are asked for as a whole come first, as they lie
    /// in their packs; what remains of others is gathered and compressed anew.
    [[nodiscard]] ChunkBatch read(const ChunkRequest& request);
    [[nodiscard]] ManifestPiece read_manifest(const ManifestRequest& request);

    struct Counters {
        std::uint64_t whole_blocks = 0;
        std::uint64_t gathered_blocks = 0;
    };
    [[nodiscard]] const Counters& counters() const { return counters_; }
    /// For measuring: compresses all anew.
    void gather_always(bool always) { gather_always_ = always; }

private:
    struct Begun {
        std::size_t times = 0;
        ChunkId manifest_name;
    };
    Status refresh();
    [[nodiscard]] Status check_begun(const std::string& vc, std::uint64_t generation) const;
    /// False: the batch is full.
    bool add_whole(const ChunkStore::BlockShare& share, BatchWriter& batch,
                   std::vector<ChunkId>& missing);
    void add_gathered(const std::vector<ChunkId>& ids, BatchWriter& batch,
                      std::vector<ChunkId>& missing);

    VcPaths paths_;
    std::unique_ptr<ChunkStore> store_;
    OwnedFd pin_;
    std::map<std::uint64_t, Begun> begun_;
    Counters counters_;
    bool gather_always_ = false;
};

}  // namespace ppdsm
