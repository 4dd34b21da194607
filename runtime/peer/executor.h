// The executor runs one virtual computer's program on this peer: makes its sandbox, checkpoints it,
// brings it back when it is killed, and keeps what it read and wrote. Everything is a message or a
// timer on the loop's thread, except that storing and restoring work on a pool thread, one job at a
// time.
//
// What may happen when: `phase_` says what the program does, `busy_` that a job is under way whose
// end must be awaited before the phase may change for another reason. Truth lives in the commit log
// only: killed at any moment, the next executor starts from there.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "criu-glue/criu/locate_criu.h"
#include "criu-glue/sandbox/refusal_log.h"
#include "criu-glue/sandbox/warden_link.h"
#include "dsm/io/loop.h"
#include "runtime/peer/cgroup.h"
#include "runtime/peer/checkpointer.h"
#include "runtime/peer/commit_log.h"
#include "runtime/peer/file_view.h"
#include "runtime/peer/home.h"
#include "runtime/peer/home_files.h"
#include "runtime/peer/journals.h"
#include "runtime/peer/process_tree.h"
#include "runtime/peer/run.h"
#include "runtime/peer/standard_streams.h"
#include "runtime/peer/vc_record.h"
#include "runtime/peer/vthreads/hosted_link.h"

namespace ppdsm {

/// CRIU's time for a dump or a restore, before it is taken to hang.
inline constexpr std::uint64_t kCriuBaseMs = 30'000;
inline constexpr std::uint64_t kCriuBytesPerMs = 20'000;  // 20 MB/s: far below any disk in use.

/// Where a generation becomes true, when that is not the executor's own commit log: the deployer.
/// Answers come on the loop's thread.
class CommitAuthority {
public:
    virtual ~CommitAuthority() = default;
    using Done = std::function<void(const Status&)>;
    /// The generation is durable here. kStaleEpoch: another incarnation has taken over.
    virtual void commit(const GenerationRecord& record, Done done) = 0;
    /// From here on output is released that no generation covers.
    virtual void note_unprotected(Done done) = 0;
    /// The program has ended; `files`, when it was not killed, is a generation of its layers alone.
    virtual void end(const EndRecord& end, const std::optional<GenerationRecord>& files,
                     Done done) = 0;
};

class Executor final : public Run {
public:
    struct Setup {
        VcPaths paths;
        VcRecord record;
        std::filesystem::path libexec;  ///< Where ppdsm-warden and ppdsm-init lie.
        std::optional<CriuInstallation> criu;
        std::string criu_problem;  ///< Why there is none.
        /// Not owned; null: the VC's own commit log decides, and home is here.
        CommitAuthority* authority = nullptr;
        /// Of the output log, by incarnations elsewhere.
        std::uint64_t released_bytes = 0;
        /// Of a program whose home is elsewhere: what it is shown, and who gives an incarnation's
        /// file server its end of a fresh channel (criu-glue/sandbox/file_channel.h).
        struct RemoteFiles {
            ViewPlan plan;
            std::function<Result<OwnedFd>()> open_channel;
        };
        std::optional<RemoteFiles> remote_files = {};
        /// Of a virtual thread: what its process asks of its computer.
        std::function<void(std::uint64_t number, Bytes call)> on_call = {};

        /// Finds the CRIU that the run needs, or notes why there is none.
        void find_criu(const std::filesystem::path& cache);
    };

    /// Takes the VC's lock and opens its journals.
    static Result<std::unique_ptr<Executor>> open(Loop& loop, const Home& home, Setup setup);
    ~Executor() override;

    /// A VC that has never run starts; one that has goes on from its last generation.
    void run();

    void give_input(ByteView data) override;
    void end_input() override;
    [[nodiscard]] bool wants_input() const override;
    void hang_up(Stream stream) override { streams_.hang_up(stream); }
    void hold_output(bool reader_is_behind) override;
    void resize_terminal(unsigned short rows, unsigned short columns) override;
    void forward_signal(int signal) override;
    void kill(std::string reason) override;
    void checkpoint(CheckpointDone done) override;
    /// To its process's call of that number.
    void answer_call(std::uint64_t number, Bytes answer);

    [[nodiscard]] const VcRecord& record() const override { return setup_.record; }
    [[nodiscard]] const InputJournal& input() const override { return input_; }
    [[nodiscard]] const OutputLog& output() const override { return output_; }
    [[nodiscard]] const RunStatistics& statistics() const override { return statistics_; }
    [[nodiscard]] nlohmann::json status() const override;

private:
    enum class Phase {
        kIdle,
        kStarting,
        kRunning,
        kDumping,
        kStoring,
        kRestoring,
        kEnding,
        kEnded
    };

    /// How the tree came to its end.
    struct Ending {
        int program_status = 0;
        bool told = true;  ///< By the warden; otherwise the warden itself is gone.
        std::string why;   ///< When the warden ended it.
    };

    Executor(Loop& loop, const Home& home, Setup setup, OwnedFd lock, CommitLog commits,
             OutputLog output, InputJournal input);

    // Starting and bringing back (executor_recovery.cc).
    Status start_afresh();
    Result<FileView> fresh_view();
    Status spawn_warden();
    SandboxSpec sandbox_spec() const;
    void bring_back();
    void restore(const GenerationRecord& record);
    [[nodiscard]] std::optional<std::filesystem::path> call_page() const;
    Status make_call_page();
    Status attach_link();
    Status rebuild_files(const GenerationRecord& record);
    void send_images(WardenMessage message);
    Status request_restore();
    Status roll_output_back(std::uint64_t output_bytes);
    /// `may_succeed_again`: the generation itself is not to blame.
    void restore_failed(const Error& error, bool may_succeed_again);
    [[nodiscard]] const GenerationRecord* restorable_generation() const;
    void became_alive(WardenMessage message);
    void offload(std::function<Status()> work, std::function<void(const Status&)> done);
    void end_job(const std::function<void()>& done);
    CommitAuthority::Done await(std::function<void(const Status&)> done);

    // Checkpoints (executor_checkpoint.cc).
    void schedule_checkpoint();
    void begin_checkpoint();
    Result<std::uint64_t> cut_streams();
    void on_frozen();
    void on_dumped(WardenMessage message);
    void on_watchdog();
    void propose(const GenerationRecord& record);
    void seal(const GenerationRecord& record);
    void on_stored(const Result<GenerationRecord>& stored);
    void checkpoint_failed(const Error& error);
    void become_unprotected();
    void finish_checkpoint(const Result<GenerationRecord>& result);
    std::vector<FileIdentity> mapped_writable_files() const;

    // The program's end (executor.cc).
    void on_warden(int events);
    void on_message(WardenMessage message);
    void on_ended(Ending ending);
    [[nodiscard]] bool should_recover(int program_status) const;
    [[nodiscard]] std::string why_not_recovered() const;
    void note_out_of_memory(int program_status);
    void finish(int program_status);
    void finish_elsewhere(int program_status, const std::string& failure, bool was_killed);
    void fail_run(const Error& error);
    void conclude(Outcome outcome);
    void on_finished_job(int program_status, const Result<ApplyReport>& files);
    void watch_output_size();
    // The files at home (executor_files.cc).
    Result<ApplyReport> apply_files(bool was_killed);
    Status apply_generation(const GenerationRecord& record);
    Status apply_place(const WritablePlace& place, const Manifest& manifest);
    void on_output(Stream stream, ByteView data);
    void release(std::uint64_t output_bytes);
    [[nodiscard]] bool releases_live() const;
    void on_timeout();
    [[nodiscard]] const char* phase_name() const;
    [[nodiscard]] pid_t init_pid() const { return pid_of(init_); }

    Loop& loop_;
    const Home& home_;
    Setup setup_;
    OwnedFd lock_;
    CommitLog commits_;
    OutputLog output_;
    InputJournal input_;
    HomeFiles home_files_;
    StandardStreams streams_;
    std::unique_ptr<Checkpointer> checkpointer_;
    RunStatistics statistics_;

    Phase phase_ = Phase::kIdle;
    bool busy_ = false;
    std::optional<Ending> ended_while_busy_;
    std::optional<Error> failed_while_busy_;
    CommitState shown_commits_;
    FileView view_;
    std::unique_ptr<HostedLink> link_;  ///< Of a virtual thread.
    std::uint64_t restored_calls_ = 0;  ///< That its process had made when it came here.
    bool must_apply_again_ = false;     ///< An earlier executor may have died in the middle of one.
    std::uint64_t known_memory_kills_ = 0;  ///< As of the last checkpoint or start.
    LimitGroup limits_;  ///< Outlives the warden, in whose namespace its processes are.
    std::unique_ptr<WardenLink> warden_;
    std::unique_ptr<Poller> warden_poller_;
    OwnedFd init_;
    std::optional<GenerationRecord> restoring_;
    Manifest restoring_manifest_;
    std::set<std::uint64_t> unsound_;  ///< Generations that could not be read or restored.
    std::uint64_t released_bytes_ = 0;
    bool reader_is_behind_ = false;
    bool stall_said_ = false;
    bool unprotected_ = false;  ///< Output has been released that no generation covers.
    std::optional<std::string> kill_reason_;
    std::vector<int> early_signals_;  ///< That came while there was no program.

    Timer checkpoint_timer_;
    Timer watchdog_;
    Timer timeout_;
    Timer end_timer_;  ///< Until there is room for the last output.
    int stalled_status_ = 0;
    CutRecord cut_;
    std::optional<Error> cut_error_;
    std::int64_t last_pause_us_ = 0;
    std::uint32_t failures_in_a_row_ = 0;
    std::vector<CheckpointDone> waiting_;  ///< For the next cut.
    std::vector<CheckpointDone> served_;   ///< By the generation being stored.
};

}  // namespace ppdsm
