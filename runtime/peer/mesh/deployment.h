// One computation of this peer's user, wherever it runs: the deployer's side. Here is the truth:
// commits.log says what has come true, the output log holds what was released, the input journal
// what the program was given, and all of it outlives this daemon. A worker runs the program; when
// it is lost another goes on from the last generation, in a new epoch that fences the old one.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/core/placement.h"
#include "runtime/peer/control.h"
#include "runtime/peer/home.h"
#include "runtime/peer/home_files.h"
#include "runtime/peer/hosted/hosted_run.h"
#include "runtime/peer/local/run_server.h"
#include "runtime/peer/mesh/mesh.h"
#include "runtime/peer/mesh/replicas.h"
#include "runtime/peer/mesh/run_messages.h"
#include "runtime/peer/mesh/thread_watcher.h"
#include "runtime/peer/run.h"
#include "runtime/peer/vthreads/call_parts.h"

namespace ppdsm {

class Deployment final : public Run {
public:
    using MoveDone = std::function<void(const Status&)>;

    struct Services {
        Loop& loop;
        Mesh& mesh;
        Warrants& warrants;
        Replicas& replicas;
        MeshFiles& files;
        Home home;
        std::shared_ptr<spdlog::logger> log;
        ThreadWatcher& threads;  ///< Told of virtual threads only.
        /// All peers that live, this one included.
        std::function<std::vector<placement::Candidate>()> survey;
    };

    /// Takes over what is in the VC's directory.
    static Result<std::unique_ptr<Deployment>> open(Services services, const VcPaths& paths);
    ~Deployment() override;
    Deployment(const Deployment&) = delete;
    Deployment& operator=(const Deployment&) = delete;

    /// Places it, or finds the worker that has it. `on_ended` once, later.
    void begin(std::function<void()> on_ended);
    void on_event(const PeerId& from, std::uint64_t epoch, const nlohmann::json& head, Bytes data);
    void on_output(const PeerId& from, std::uint64_t epoch, std::uint64_t offset_bytes,
                   ByteView frames);
    /// Somebody joined, died or changed.
    void on_members_changed();
    /// Every few seconds: would it run much better elsewhere?
    void look_around();
    /// Moves the program to a peer while it runs. `done` when it goes on there, or with why it
    /// stays: kInvalid, kUnsupported, kUnavailable.
    void migrate(const PeerId& target, const std::string& why, MoveDone done);
    /// To a virtual thread's call of that number.
    void answer_call(std::uint64_t number, ByteView answer);
    /// To its watchers, of a virtual thread that it has spawned.
    void tell_thread_release(const ThreadRelease& release);
    /// Tells a new watcher how things stand.
    void brief(RunObserver& observer);
    [[nodiscard]] bool has_ended() const { return phase_ == Phase::kEnded; }
    [[nodiscard]] const VcPaths& paths() const { return paths_; }
    /// Who runs it, or is to.
    [[nodiscard]] const std::optional<PeerId>& worker() const { return worker_; }
    /// When it was last sent to one, by the monotonic clock.
    [[nodiscard]] std::int64_t placed_us() const { return placed_us_; }
    /// Whether that peer runs it, or is to keep it.
    [[nodiscard]] bool involves(const PeerId& peer) const;

    void give_input(ByteView data) override;
    void end_input() override;
    [[nodiscard]] bool wants_input() const override;
    void hang_up(Stream stream) override;
    void hold_output(bool reader_is_behind) override;
    void resize_terminal(unsigned short rows, unsigned short columns) override;
    void forward_signal(int signal) override;
    void kill(std::string reason) override;
    void checkpoint(CheckpointDone done) override;
    [[nodiscard]] const VcRecord& record() const override { return record_; }
    [[nodiscard]] const InputJournal& input() const override { return input_; }
    [[nodiscard]] const OutputLog& output() const override { return output_; }
    [[nodiscard]] const RunStatistics& statistics() const override { return statistics_; }
    [[nodiscard]] nlohmann::json status() const override;

private:
    /// Of workers without a new generation in between.
    static constexpr std::uint32_t kMaxFailures = 5;

    enum class Phase { kWaiting, kDeploying, kRunning, kEnding, kEnded };

    /// From one living peer to another: the target gets a copy while the program runs, then what
    /// changed since in one last generation, from which it goes on there in a new epoch.
    struct Move {
        PeerId target;
        MoveDone done;
        bool has_copy = false;
        bool is_handed_over = false;
        std::uint32_t rounds = 0;
    };

    struct Copies {
        std::vector<PeerId> holders;
        CopyFailures failures;  ///< Of the other replicas.
    };

    Deployment(Services services, VcPaths paths, VcRecord record, OwnedFd lock, CommitLog commits,
               OutputLog output, InputJournal input);
    Status load_placement();
    Status show_files();
    void plan();
    [[nodiscard]] std::string encode_placement() const;
    void note_placement();
    void place();
    [[nodiscard]] placement::Request placement_request() const;
    [[nodiscard]] placement::Ranking rank_others(std::optional<PeerId> only) const;
    [[nodiscard]] std::vector<PeerId> choose_replicas(const PeerId& worker) const;
    void note_unable(const std::vector<PeerId>& peers);
    void deploy(const PeerId& worker);
    Status begin_epoch(DeployOrder& order, std::uint64_t released_bytes,
                       const std::string& placement);
    void send_order(const DeployOrder& order);
    void on_deployed(std::uint64_t epoch, const PeerId& worker, const Status& answer);
    void lose_worker(const std::string& why);
    void on_hosting(const PeerId& from, std::uint64_t epoch, const nlohmann::json& head);
    void on_proposal(const nlohmann::json& head);
    Status commit(const GenerationRecord& record, std::uint64_t epoch);
    void on_committed(const GenerationRecord& record, const Copies& copies);
    [[nodiscard]] std::uint64_t covered_calls() const;
    void on_unprotected(const nlohmann::json& head);
    void on_end_proposal(const nlohmann::json& head);
    void finish();
    void on_failed(const nlohmann::json& head);
    void on_progress(const std::string& event, const nlohmann::json& head, ByteView data);
    Status write_files(const GenerationRecord& files);
    void conclude(Outcome outcome);
    void tell_end(Outcome outcome);
    [[nodiscard]] Incarnation incarnation() const;
    void command(const nlohmann::json& head, Bytes data = {});
    void answer(std::uint64_t token, const Status& status);
    void send_input();
    void release(std::uint64_t output_bytes);
    void update_replicas();
    // Moving (deployment_move.cc).
    [[nodiscard]] Status check_move(const PeerId& target) const;
    void go_on_moving();
    void advance_move(bool is_new, const CopyFailures& failures);
    void hand_over();
    void end_move(const Status& status);
    [[nodiscard]] bool is_moved_to(const PeerId& worker) const;
    void leave_if_unwanted();
    void mend_copies();
    void tell_replicas();
    void ask_checkpoint();
    void job(std::function<Status()> work, std::function<void(const Status&)> done);
    void say(const std::string& text);
    [[nodiscard]] bool is_thread() const { return record_.thread != 0; }

    Services services_;
    VcPaths paths_;
    VcRecord record_;
    ViewPlan plan_;
    OwnedFd lock_;
    CommitLog commits_;
    OutputLog output_;
    InputJournal input_;
    CommitState truth_;  ///< What the commit log said when the last job ended.
    HomeFiles home_files_;
    RunStatistics statistics_;
    std::unique_ptr<ControlServer> control_;
    std::function<void()> on_ended_;

    Phase phase_ = Phase::kWaiting;
    /// Of the incarnation that counts, from the moment at which it is decided upon.
    std::uint64_t epoch_ = 0;
    bool is_concluded_ = false;
    std::optional<PeerId> worker_;
    std::int64_t placed_us_ = 0;
    std::vector<PeerId> replicas_;
    /// Who has the last generation.
    std::vector<PeerId> holders_;
    std::string missing_copies_;
    std::map<PeerId, std::int64_t> unable_until_us_;  ///< To keep its generations.
    std::set<PeerId> refused_;                        ///< Did not take this epoch's order.
    std::uint32_t failures_ = 0;                      ///< Of workers, since the last generation.
    std::uint64_t released_bytes_ = 0;
    std::uint64_t sent_input_bytes_ = 0;
    std::uint64_t taken_input_bytes_ = 0;
    std::uint64_t sent_signals_ = 0;
    bool sent_input_end_ = false;
    pid_t program_pid_ = 0;
    std::string waiting_why_;
    std::optional<std::string> kill_reason_;
    std::optional<Outcome> outcome_;
    std::map<std::uint64_t, CheckpointDone> checkpoints_;
    PartsReader calls_;
    std::uint64_t next_token_ = 1;
    bool busy_ = false;
    std::vector<std::function<void()>> after_job_;
    std::optional<placement::Cpu> made_on_;  ///< The last generation.
    std::optional<Move> move_;
    placement::Hysteresis hysteresis_;
    std::int64_t next_move_us_ = 0;  ///< Of its own accord, after one that failed.
    Timer retry_timer_;
    Timer grace_timer_;  ///< After a restart, for the worker to be heard of.
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ppdsm
