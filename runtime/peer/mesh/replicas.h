// Generations on this peer that belong to programs which run elsewhere, and those of programs here
// on their way to other peers: the daemon's side of replication. hosted/<vc> in the home is either
// an executor's or a replica's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/peer/commit_log.h"
#include "runtime/peer/home.h"
#include "runtime/peer/mesh/copy_failures.h"
#include "runtime/peer/mesh/mesh.h"
#include "runtime/peer/mesh/warrants.h"

namespace ppdsm {

class Replicas {
public:
    Replicas(Loop& loop, Mesh& mesh, Warrants& warrants, const Home& home,
             std::shared_ptr<spdlog::logger> log);
    ~Replicas();
    Replicas(const Replicas&) = delete;
    Replicas& operator=(const Replicas&) = delete;

    struct Outcome {
        std::vector<PeerId> durable;  ///< They have it, for good.
        CopyFailures failures;        ///< Of the others.
    };
    /// Offers a generation that is here to each of `peers`; `done` when all have answered.
    void replicate(const std::string& vc, const GenerationRecord& record,
                   const std::vector<PeerId>& peers, std::function<void(Outcome)> done);
    /// Brings a generation here from any of `sources`; at once when it is here.
    void bring(const std::string& vc, const GenerationRecord& record,
               const std::vector<PeerId>& sources, std::function<void(const Status&)> done);
    /// Lets go of the VC's directory, so that an executor can have it.
    void release(const std::string& vc, std::function<void(const Status&)> done);
    /// Forgets all of a VC that no executor has here.
    void forget(const std::string& vc);
    void on_link_closed(const PeerId& peer);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace ppdsm
