// Brings contents into the cache: by the pieces, several at a time, from a source. Two who want the
// same content at once wait for one fetch. Bounded: so many pieces under way for all together.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/peer/program_files/file_cache.h"

namespace ppdsm {

class FileFetcher {
public:
    static constexpr std::size_t kMostPiecesUnderWay = 16;

    /// Both outlive it.
    FileFetcher(Loop& loop, FileCache& cache, FileSource& source);
    ~FileFetcher();  ///< Fetches under way are given up and not answered.
    FileFetcher(const FileFetcher&) = delete;
    FileFetcher& operator=(const FileFetcher&) = delete;

    /// `layout`: when it is known; otherwise the source is asked. The descriptor is readable as
    /// soon as all pieces are; `durable`: only when the cache keeps it, as a replica needs it.
    void fetch(FileId file, std::optional<FileLayout> layout, bool durable,
               std::function<void(Result<OwnedFd>)> done);
    /// The same from somewhere else than the source: memory, or this host's own disk. `pieces` is
    /// called on the loop's thread and calls its argument later; wrong bytes are kCorrupt.
    using Pieces = std::function<void(std::uint32_t index, std::function<void(Result<Bytes>)>)>;
    void fetch_from(FileLayout layout, Pieces pieces, bool durable,
                    std::function<void(Result<OwnedFd>)> done);
    [[nodiscard]] Pieces from_memory(Bytes content);
    [[nodiscard]] Pieces from_file(OwnedFd file, FileLayout layout);

    /// A replica's: all of these, durably. The first error ends it.
    void fetch_all(std::vector<FileId> files, std::function<void(Status)> done);
    /// When everything that has been readable so far is durable.
    void settle(std::function<void(Status)> done);

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace ppdsm
