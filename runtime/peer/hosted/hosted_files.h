// The files of one program that this peer runs: the broker that its file servers ask, and the
// replicas of what it was shown. Before a generation is proposed everything that the program has
// been shown, and all that its owner exposed beyond the system's, is durable here and at the
// replicas: so the owner may die, and its files may change, without the program seeing it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/peer/mesh/copy_failures.h"
#include "runtime/peer/mesh/file_messages.h"
#include "runtime/peer/mesh/mesh_files.h"
#include "runtime/peer/program_files/file_broker.h"

namespace ppdsm {

class HostedFiles {
public:
    struct Setup {
        std::string vc;
        ViewPlan plan;
        PeerId owner;
        std::filesystem::path catalog;
        std::string program;  ///< What the last of its kind was shown is got ready ahead.
        std::vector<PeerId> holders;
    };
    static Result<std::unique_ptr<HostedFiles>> open(Loop& loop, Mesh& mesh, MeshFiles& files,
                                                     Setup setup,
                                                     std::shared_ptr<spdlog::logger> log);
    ~HostedFiles();
    HostedFiles(const HostedFiles&) = delete;
    HostedFiles& operator=(const HostedFiles&) = delete;

    /// Of an incarnation's file server.
    void attach(OwnedFd channel) { broker_->attach(std::move(channel)); }
    void set_holders(std::vector<PeerId> holders) { source_->set_holders(std::move(holders)); }

    struct Secured {
        std::uint64_t catalog_bytes = 0;
        std::vector<PeerId> peers;  ///< Of those that were asked: have all of it.
        CopyFailures failures;      ///< Of the others.
    };
    /// All that was shown until now. kUnavailable: the owner is gone before it was all here.
    void secure(std::vector<PeerId> peers, std::function<void(Result<Secured>)> done);

private:
    struct Round;
    HostedFiles(Loop& loop, Mesh& mesh, MeshFiles& files, Setup setup,
                std::shared_ptr<spdlog::logger> log)
        : loop_(loop), mesh_(mesh), files_(files), setup_(std::move(setup)), log_(std::move(log)) {}
    void complete(std::function<void(const Status&)> done);
    void note_progress(const FileBroker::Progress& progress);
    void on_complete(const Result<FileBroker::Exposures>& exposures);
    void settle(const std::shared_ptr<Round>& round);
    void bring_up_to_date(const PeerId& peer, const std::shared_ptr<Round>& round);
    void on_answer(const PeerId& peer, const std::shared_ptr<Round>& round, const HoldReply& holds);

    Loop& loop_;
    Mesh& mesh_;
    MeshFiles& files_;
    Setup setup_;
    std::shared_ptr<spdlog::logger> log_;
    std::shared_ptr<MeshFileSource> source_;
    std::unique_ptr<FileBroker> broker_;
    bool is_complete_ = false;
    std::vector<std::function<void(const Status&)>> wait_for_completion_;
    std::int64_t progress_said_us_ = 0;
    std::map<PeerId, std::uint64_t> held_bytes_;  ///< Of the catalog, by the replicas.
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ppdsm
