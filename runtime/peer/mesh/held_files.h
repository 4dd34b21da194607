// What a replica keeps of one computation's files: the catalog of what its program was shown, as
// far as the worker has told it, and every content that this names.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>

#include "runtime/peer/home.h"
#include "runtime/peer/mesh/file_messages.h"
#include "runtime/peer/mesh/mesh_file_source.h"
#include "runtime/peer/program_files/file_catalog.h"
#include "runtime/peer/program_files/file_fetcher.h"

namespace ppdsm {

class HeldFiles {
public:
    /// Goes on with the catalog that is there. `cache` outlives it.
    static Result<std::unique_ptr<HeldFiles>> open(Loop& loop, FileCache& cache,
                                                   std::shared_ptr<MeshFileSource> source,
                                                   const VcPaths& paths);
    ~HeldFiles();
    HeldFiles(const HeldFiles&) = delete;
    HeldFiles& operator=(const HeldFiles&) = delete;

    /// Further lines of the catalog; `done` when all that they name is here durably, with how much
    /// of the catalog that is. Another catalog than the one here is begun afresh: then that is
    /// less than was given.
    void add(HoldRequest request, std::function<void(const HoldReply&)> done);

private:
    struct Impl;
    explicit HeldFiles(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace ppdsm
