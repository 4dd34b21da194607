// This daemon's part in programs' files: shows its own user's to the peers that have to do with a
// computation, keeps what programs here and the computations that it is a replica of were shown,
// and gives contents on to other peers. On the loop's thread; disks are waited for in the pool.
//
// A content is given to any member of the mesh that names it and a computation known here: who
// knows its 128-bit name has been shown the file. Paths are shown to the computation's own peers,
// catalogs to those with a warrant (warrants.h).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/peer/home.h"
#include "runtime/peer/mesh/mesh.h"
#include "runtime/peer/mesh/mesh_file_source.h"
#include "runtime/peer/mesh/warrants.h"
#include "runtime/peer/program_files/file_cache.h"
#include "runtime/peer/program_files/file_owner.h"
#include "runtime/peer/view_plan.h"

namespace ppdsm {

class MeshFiles {
public:
    static Result<std::unique_ptr<MeshFiles>> open(Loop& loop, Mesh& mesh, Warrants& warrants,
                                                   const Home& home,
                                                   std::shared_ptr<spdlog::logger> log);
    ~MeshFiles();
    MeshFiles(const MeshFiles&) = delete;
    MeshFiles& operator=(const MeshFiles&) = delete;

    /// A computation of this peer's user. `involves`: whether a peer runs it or is to keep it.
    Status show(const std::string& vc, const ViewPlan& plan,
                std::function<bool(const PeerId&)> involves);
    /// It has ended.
    void hide(const std::string& vc);

    [[nodiscard]] FileCache& cache();
    /// Before a replica is asked to keep what was shown.
    [[nodiscard]] Warrants& warrants();
    /// Told of the links that open while it is in use; the pointer is the caller's.
    [[nodiscard]] std::shared_ptr<MeshFileSource> source(const std::string& vc,
                                                         const PeerId& owner);
    void on_linked(const PeerId& peer);

    /// A program is to run here: what a replica kept becomes its own, and is completed to the
    /// catalog's first `catalog_bytes` from one of `sources`. Until end_hosting().
    void begin_hosting(const std::string& vc, std::uint64_t catalog_bytes,
                       const std::vector<PeerId>& sources, std::function<void(const Status&)> done);
    void end_hosting(const std::string& vc);

    /// What the computation's catalog names is not needed any more.
    void forget(const std::string& vc);

private:
    struct Impl;
    explicit MeshFiles(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace ppdsm
