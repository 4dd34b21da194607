// One program that this peer runs for a deployer: the executor process, and what passes between it
// and the deployer. What the executor proposes is first made durable at the replicas, then told;
// what the deployer asks is handed on. While the link to the deployer is down the program runs on,
// but nothing of it comes true.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dsm/base/child_process.h"
#include "runtime/peer/commit_log.h"
#include "runtime/peer/home.h"
#include "runtime/peer/hosted/hosted_files.h"
#include "runtime/peer/journals.h"
#include "runtime/peer/local/local_socket.h"
#include "runtime/peer/mesh/mesh.h"
#include "runtime/peer/mesh/replicas.h"
#include "runtime/peer/mesh/run_messages.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

/// What a deployer wants run, and from where on.
struct DeployOrder {
    VcRecord record;
    std::uint64_t epoch = 0;
    std::optional<GenerationRecord> generation;  ///< None: from the start.
    std::uint64_t output_bytes = 0;              ///< Where its output log goes on.
    Bytes released;  ///< Log frames behind that, which the program must write again.
    std::uint64_t input_bytes = 0;
    std::uint64_t input_signals = 0;
    bool previews = false;
    std::vector<PeerId> replicas;
    std::vector<PeerId> sources;  ///< Who has the generation.
    ViewPlan plan;                ///< What the program is shown of the deployer's files.
};
Bytes encode_order(const DeployOrder& order);
Result<DeployOrder> decode_order(ByteView bytes);

class HostedRun {
public:
    HostedRun(Loop& loop, Mesh& mesh, Replicas& replicas, MeshFiles& mesh_files, const Home& home,
              PeerId deployer, DeployOrder order, std::shared_ptr<spdlog::logger> log);
    ~HostedRun();
    HostedRun(const HostedRun&) = delete;
    HostedRun& operator=(const HostedRun&) = delete;

    /// `done` when the executor holds the VC, or why it does not. `on_gone` later, once, when
    /// nothing of it runs here any more.
    void start(const std::function<void(const Status&)>& done, std::function<void()> on_gone);
    /// From the deployer.
    void on_command(const nlohmann::json& head, Bytes data);
    void on_deployer_linked();
    void on_deployer_unlinked() { connected_ = false; }
    void on_link_drained() { pump(); }
    /// Kills the program and its executor.
    void stop(const std::string& why);

    [[nodiscard]] const PeerId& deployer() const { return deployer_; }
    [[nodiscard]] std::uint64_t epoch() const { return order_.epoch; }
    [[nodiscard]] const VcRecord& record() const { return order_.record; }

private:
    /// What the deployer has not answered yet.
    struct Proposal {
        std::uint64_t token = 0;
        std::string head;
        std::uint64_t output_bytes = 0;  ///< That it must have first.
        bool is_end = false;             ///< Of the run.
        bool ready = false;              ///< The replicas have it.
    };
    struct Outgoing {
        std::string head;
        Bytes data;
        std::uint64_t output_bytes = 0;
    };

    Status prepare_directory();
    Status open_files();
    [[nodiscard]] std::vector<PeerId> file_holders() const;
    Status spawn();
    void launch(const std::function<void(const Status&)>& done);
    void on_executor(const nlohmann::json& head, LocalMessage message);
    void on_proposal(const nlohmann::json& head);
    void on_end_proposal(nlohmann::json head);
    void on_call_part(const nlohmann::json& head, Bytes data);
    void replicate(const GenerationRecord& record, const std::vector<PeerId>& peers,
                   Proposal proposal, nlohmann::json head);
    void reject(std::uint64_t token, const Error& why);
    void submit(Proposal proposal);
    void tell(const nlohmann::json& head, Bytes data = {});
    void pump();
    void ship_output();
    [[nodiscard]] Incarnation incarnation() const { return {order_.record.id, order_.epoch}; }
    void on_executor_ended();
    void tell_gone();
    void go_on_telling(const nlohmann::json& head);
    void on_accepted(const nlohmann::json& head);
    void take_input(const nlohmann::json& head, Bytes data);
    void replace_replicas(const nlohmann::json& head);

    Loop& loop_;
    Mesh& mesh_;
    Replicas& replicas_;
    MeshFiles& mesh_files_;
    Home home_;
    VcPaths paths_;
    PeerId deployer_;
    DeployOrder order_;
    std::shared_ptr<spdlog::logger> log_;
    std::unique_ptr<HostedFiles> files_;
    std::optional<ChildProcess> executor_;
    std::unique_ptr<Poller> executor_poller_;
    std::unique_ptr<LocalSocket> socket_;
    std::function<void(const Status&)> started_;
    std::function<void()> on_gone_;
    std::optional<OutputLog> output_;
    std::deque<Proposal> proposals_;
    std::deque<Outgoing> outbox_;
    std::vector<Outgoing>
        call_;  ///< The parts of a virtual thread's call that waits for its answer.
    std::uint64_t sent_output_bytes_ = 0;
    std::uint64_t released_bytes_ = 0;  ///< Without checkpoints: to be told up to here.
    std::uint64_t given_input_bytes_ = 0;
    std::uint64_t given_signals_ = 0;
    std::optional<GenerationRecord> last_;
    std::set<PeerId> copying_;  ///< Replicas that get the last generation apart from a new one.
    bool reading_ = false;
    bool connected_ = true;
    bool ended_ = false;  ///< The deployer has accepted the end.
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ppdsm
