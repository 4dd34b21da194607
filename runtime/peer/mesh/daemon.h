// The daemon of one peer: what `ppdsm peer start` runs. It joins the mesh, answers the commands of
// its user over <home>/peer.sock, and hosts and deploys programs.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/core/placement.h"
#include "runtime/peer/home.h"
#include "runtime/peer/hosted/hosted_run.h"
#include "runtime/peer/local/local_socket.h"
#include "runtime/peer/local/run_server.h"
#include "runtime/peer/mesh/capacity.h"
#include "runtime/peer/mesh/computers.h"
#include "runtime/peer/mesh/deployment.h"
#include "runtime/peer/mesh/mesh.h"
#include "runtime/peer/mesh/mesh_files.h"
#include "runtime/peer/mesh/replicas.h"
#include "runtime/peer/mesh/warrants.h"

namespace ppdsm {

struct DaemonOptions {
    std::string name;
    Endpoint listen;
    std::vector<Endpoint> advertised;
    std::vector<Endpoint> call;     ///< Peers to look for, known already.
    std::vector<std::string> join;  ///< Invitations.
    double cpus = 0;
    double yield_to_cores = 0;  ///< Used by others than the mesh: its programs leave. 0: never.
    std::uint64_t memory_bytes = 0;
    bool foreground = false;
};

class Daemon {
public:
    /// kUnavailable: another daemon has this home.
    static Result<std::unique_ptr<Daemon>> start(Loop& loop, const Home& home,
                                                 DaemonOptions options);
    ~Daemon();
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

    /// Tells the mesh, ends what is hosted, stops the loop.
    void stop();
    [[nodiscard]] Mesh& mesh() { return *mesh_; }

private:
    struct Client {
        std::unique_ptr<LocalSocket> socket;
    };
    Daemon(Loop& loop, const Home& home, DaemonOptions options, OwnedFd lock);
    Status listen_locally();
    void accept_client();
    void on_request(std::uint64_t client, const nlohmann::json& head);
    void answer(std::uint64_t client, const nlohmann::json& reply);
    Result<nlohmann::json> handle(const nlohmann::json& request);
    nlohmann::json describe_member(const Member& member) const;
    nlohmann::json list() const;
    Result<nlohmann::json> show(const std::string& peer) const;
    Result<nlohmann::json> edit_trust(const nlohmann::json& request);
    void measure();
    void advertise();
    Status set_drained(bool drained);

    // Where programs run (daemon_placing.cc).
    [[nodiscard]] std::vector<placement::Candidate> survey() const;
    void watch_owner();
    void look_around();
    void migrate(std::uint64_t client, const nlohmann::json& request);

    // Programs (daemon_programs.cc).
    Deployment::Services services();
    void make_computers();
    void resume_deployments();
    Deployment& adopt_deployment(std::unique_ptr<Deployment> deployment);
    void forget_deployment(const std::string& vc);
    Result<VcPaths> create_deployment(VcRecord record);
    Result<std::string> deploy_thread(const VcRecord& record);
    [[nodiscard]] std::set<std::string> workers() const;
    Result<nlohmann::json> attach(std::uint64_t client, const nlohmann::json& request);
    void listen_for_programs();
    void answer_order(const PeerId& to, std::uint64_t correlation, const Status& status);
    [[nodiscard]] Status check_order(const PeerId& from, const DeployOrder& order) const;
    Status on_deploy(const PeerId& from, const Frame& frame);
    void host(const PeerId& from, std::uint64_t correlation, DeployOrder order);
    void forget_hosted(const std::string& vc);
    void end_hosting(const std::string& vc);
    Status on_command(const PeerId& from, const Frame& frame);
    Status on_event(const PeerId& from, const Frame& frame);

    /// A command that watches a run of ours.
    struct Session {
        std::string vc;
        std::unique_ptr<RunServer> server;
    };
    /// For when the incarnation before is gone.
    struct NextOrder {
        PeerId from;
        std::uint64_t correlation = 0;
        DeployOrder order;
    };

    Loop& loop_;
    Home home_;
    DaemonOptions options_;
    OwnedFd lock_;
    std::shared_ptr<spdlog::logger> log_;
    std::unique_ptr<Mesh> mesh_;
    std::unique_ptr<Warrants> warrants_;
    std::unique_ptr<Replicas> replicas_;
    std::unique_ptr<MeshFiles> files_;
    std::unique_ptr<Computers> computers_;
    std::map<std::string, std::unique_ptr<Deployment>> deployments_;
    std::map<std::string, std::unique_ptr<HostedRun>> hosted_;
    std::map<std::string, NextOrder> next_orders_;
    std::set<std::string> forgotten_;  ///< Hosted still, and to be removed then.
    std::map<std::uint64_t, Session> sessions_;
    bool members_changed_ = false;
    bool stopping_ = false;
    OwnedFd listener_;
    std::unique_ptr<Poller> listener_poller_;
    std::map<std::uint64_t, Client> clients_;
    std::uint64_t next_client_ = 1;
    Capacity capacity_;
    Timer advert_timer_;
    Timer stop_timer_;
    std::int64_t measured_us_ = 0;
    placement::OwnerWatch owner_watch_;
    CpuUse cpu_use_;
    bool measuring_ = false;
    std::int64_t started_unix_ms_ = 0;
};

/// Where a home's daemon listens to its user.
[[nodiscard]] std::filesystem::path daemon_socket(const std::filesystem::path& home);

}  // namespace ppdsm
