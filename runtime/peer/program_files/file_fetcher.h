// Brings contents into the cache: by the pieces, several at a time, from a source. Two who want the
// same content at once wait for one fetch. Bounded: so many pieces under way for all together.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "runtime/peer/program_files/file_cache.h"

namespace ppdsm {

class FileFetcher {
public:
    static constexpr std::size_t kMostPiecesUnderWay = 16;

    /// Both outlive it.
    FileFetcher(Loop& loop, FileCache& cache, FileSource& source);
    ~FileFetcher();  ///< Fetches under way are given up and not answered.

    /// `layout`: when it is known; otherwise the source is asked. The descriptor is readable as
    /// soon as all pieces are; `durable`: only when the cache keeps it, as a replica needs it.
    void fetch(FileId file, std::optional<FileLayout> layout, bool durable,
               std::function<void(Result<OwnedFd>)> done);
    /// A replica's: all of these, durably. The first error ends it.
    void fetch_all(std::vector<FileId> files, std::function<void(Status)> done);

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace ppdsm
