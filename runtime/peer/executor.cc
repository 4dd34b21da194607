#include "runtime/peer/executor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/host_record.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

namespace {

constexpr std::uint64_t kMaxUnreadInputBytes = std::uint64_t{1} << 20;
/// Unreleased output: from here on a checkpoint is due, from there on the program waits for it.
constexpr std::uint64_t kEarlyOutputBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMostOutputBytes = std::uint64_t{256} << 20;
constexpr std::uint64_t kStalledEndMs = 200;

}  // namespace

void Executor::Setup::find_criu(const std::filesystem::path& cache) {
    if (record.checkpoint_every_ms < 0) return;
    Result<CriuInstallation> found = locate_criu(cache);
    if (found) {
        criu = *std::move(found);
    } else {
        criu_problem = found.error().message() + "; `ppdsm doctor` says more";
    }
}

Result<std::unique_ptr<Executor>> Executor::open(Loop& loop, const Home& home, Setup setup) {
    if (setup.record.thread != 0 && !setup.on_call) {
        return fail(Code::kUnsupported,
                    "it is a virtual thread of a computation on the mesh, and cannot go on alone");
    }
    PPDSM_ASSIGN(OwnedFd lock, lock_vc(setup.paths));
    PPDSM_ASSIGN(CommitLog commits, CommitLog::open(setup.paths.commits()));
    PPDSM_ASSIGN(OutputLog output, OutputLog::open(setup.paths.output(), true));
    PPDSM_ASSIGN(InputJournal input, InputJournal::open(setup.paths.input()));
    std::unique_ptr<Executor> executor(new Executor(loop, home, std::move(setup), std::move(lock),
                                                    std::move(commits), std::move(output),
                                                    std::move(input)));
    PPDSM_ASSIGN(
        executor->checkpointer_,
        Checkpointer::open(executor->setup_.paths, executor->commits_, executor->output_,
                           describe_host(executor->setup_.criu ? executor->setup_.criu->version_text
                                                               : std::string())));
    return executor;
}

Executor::Executor(Loop& loop, const Home& home, Setup setup, OwnedFd lock, CommitLog commits,
                   OutputLog output, InputJournal input)
    : loop_(loop),
      home_(home),
      setup_(std::move(setup)),
      lock_(std::move(lock)),
      commits_(std::move(commits)),
      output_(std::move(output)),
      input_(std::move(input)),
      home_files_(setup_.paths, setup_.record),
      streams_(loop, output_, input_,
               {[this](Stream stream, ByteView data) { on_output(stream, data); },
                [this](const Error& error) { loop_.post([this, error] { fail_run(error); }); },
                [this](const Error& error) {
                    if (std::exchange(stall_said_, true)) return;
                    notify([&](RunObserver& o) { o.on_output_stalled(error); });
                }}),
      checkpoint_timer_(loop, [this] { begin_checkpoint(); }),
      watchdog_(loop, [this] { on_watchdog(); }),
      timeout_(loop, [this] { on_timeout(); }),
      end_timer_(loop, [this] { finish(stalled_status_); }) {}

Executor::~Executor() = default;

const char* Executor::phase_name() const {
    switch (phase_) {
        case Phase::kIdle:
        case Phase::kStarting: return "starting";
        case Phase::kRunning: return "running";
        case Phase::kDumping:
        case Phase::kStoring: return "checkpointing";
        case Phase::kRestoring: return "restoring";
        case Phase::kEnding: return "ending";
        case Phase::kEnded: return "ended";
    }
    return "?";
}

nlohmann::json Executor::status() const {
    using Json = nlohmann::json;
    Json pids = Json::array();
    for (const HostProcess& process : process_tree(init_pid())) {
        pids.push_back({{"pid", process.pid},
                        {"inner_pid", process.inner_pid},
                        {"command", bytes_to_utf8(process.command)}});
    }
    // As of the last job's end, since jobs write the log.
    const GenerationRecord* last = shown_commits_.last();
    return {{"state", phase_name()},
            {"generation", last == nullptr ? 0 : last->generation},
            {"protected", !unprotected_},
            {"restores", statistics_.restores},
            {"pids", pids},
            {"init_pid", init_pid()},
            {"root_pid", init_pid() > 0 ? program_of(init_pid()) : 0},
            {"executor_pid", ::getpid()}};
}

void Executor::run() {
    if (setup_.record.timeout_ms > 0) {
        timeout_.start(static_cast<std::uint64_t>(setup_.record.timeout_ms));
    }
    const CommitState& state = commits_.state();
    const bool resumed = state.epoch > 0;
    if (Status begun = commits_.begin_epoch(); !begun) return fail_run(begun.error());
    if (Status loaded = home_files_.load(); !loaded) return fail_run(loaded.error());
    shown_commits_ = state;
    if (state.end) {
        // Only the end's own effects may be missing.
        release(state.end->output_bytes);
        return finish(state.end->wait_status);
    }
    if (state.unprotected) {
        return fail_run(Error(Code::kUnsupported,
                              "it ran without checkpoints and has shown output, so that there is "
                              "nothing to go on from; start the program again"));
    }
    if (setup_.record.checkpoint_every_ms < 0) {
        if (Status noted = commits_.note_unprotected(); !noted) return fail_run(noted.error());
    }
    must_apply_again_ =
        resumed && setup_.record.files == FilesMode::kCommit && setup_.authority == nullptr;
    if (resumed) {
        if (const GenerationRecord* last = state.last(); last != nullptr) {
            released_bytes_ = std::max(last->output_bytes, setup_.released_bytes);
        }
        return bring_back();
    }
    if (Status started = start_afresh(); !started) fail_run(started.error());
}

void Executor::on_warden(int /*events*/) {
    Result<WardenMessage> message = warden_->socket().receive();
    if (message) return on_message(*std::move(message));
    on_ended({SIGKILL, false, {}});
}

/// CRIU hangs.
void Executor::on_watchdog() {
    if (phase_ == Phase::kRestoring) {
        return restore_failed(Error(Code::kUnavailable, "the restore did not come to an end"),
                              false);
    }
    // Half dumped, with CRIU's code inside: it cannot run on.
    if (phase_ == Phase::kDumping && warden_) warden_->kill();
}

void Executor::on_message(WardenMessage message) {
    using Type = WardenMessage::Type;
    switch (message.type) {
        case Type::kStarted:
        case Type::kRestored: return became_alive(std::move(message));
        case Type::kImageDirectory: return send_images(std::move(message));
        case Type::kFrozen: return on_frozen();
        case Type::kDumped: return on_dumped(std::move(message));
        case Type::kEnded:
            return on_ended({static_cast<int>(message.numbers[0]), true, std::move(message.text)});
        case Type::kFailed: {
            const Error error(Code::kUnsupported, message.text);
            if (phase_ == Phase::kDumping) {
                return checkpoint_failed(std::exchange(cut_error_, {}).value_or(error));
            }
            if (phase_ == Phase::kRestoring) return restore_failed(error, message.numbers[0] == 1);
            return fail_run(error);
        }
        default: return fail_run(Error(Code::kCorrupt, "unexpected message from the warden"));
    }
}

void Executor::on_ended(Ending ending) {
    if (busy_) {
        // A job still reads the dump; what it commits happened before the end.
        warden_poller_.reset();
        ended_while_busy_ = std::move(ending);
        return;
    }
    if (phase_ == Phase::kRestoring && !ending.told) {
        return restore_failed(Error(Code::kUnavailable, "the sandbox was killed"), true);
    }
    const bool in_checkpoint = phase_ == Phase::kDumping;
    checkpoint_timer_.stop();
    watchdog_.stop();
    warden_poller_.reset();
    warden_.reset();  // Nothing of the tree runs any more; what it wrote is in the pipes.
    init_.reset();
    cut_error_.reset();
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) return;
    phase_ = Phase::kEnding;
    if (in_checkpoint) {
        finish_checkpoint(fail(Code::kUnavailable, "the program ended during the checkpoint"));
        checkpointer_->abandon();
    }
    note_out_of_memory(ending.program_status);
    if (!should_recover(ending.program_status)) return finish(ending.program_status);
    (void)streams_.drain();
    std::string cause =
        ending.told ? "the program was killed by SIGKILL" : "the sandbox was killed";
    if (!ending.why.empty()) cause = ending.why;
    notify([&](RunObserver& observer) { observer.on_died(cause); });
    bring_back();
}

void Executor::note_out_of_memory(int program_status) {
    // A child of the program that was killed long ago, and that it coped with, is no reason.
    if (!killed_by_sigkill(program_status) || kill_reason_ ||
        limits_.out_of_memory_kills() == known_memory_kills_) {
        return;
    }
    kill_reason_ = fmt::format("the program was killed for using more than --memory {} bytes",
                               setup_.record.memory_bytes);
}

bool Executor::should_recover(int program_status) const {
    if (!setup_.record.recover || kill_reason_ || unprotected_) return false;
    if (setup_.record.checkpoint_every_ms < 0) return false;
    return killed_by_sigkill(program_status);
}

std::string Executor::why_not_recovered() const {
    if (kill_reason_) return *kill_reason_;
    const char* why = unprotected_ || setup_.record.checkpoint_every_ms < 0
                          ? "it has no checkpoint to go on from"
                          : "--recover never";
    return std::string("the program was killed by SIGKILL; ") + why;
}

void Executor::finish(int program_status) {
    phase_ = Phase::kEnding;
    if (!streams_.drain()) {
        // The end may be told only when all output is kept.
        stalled_status_ = program_status;
        end_timer_.start(kStalledEndMs);
        return;
    }
    if (streams_.catching_up()) {
        return fail_run(Error(Code::kCorrupt,
                              "the program, rolled back behind output that had been released, "
                              "ended without writing it again"));
    }
    const bool was_killed = killed_by_sigkill(program_status);
    const std::string failure =
        was_killed ? why_not_recovered() + "; its files were not written home" : "";
    if (setup_.authority != nullptr) return finish_elsewhere(program_status, failure, was_killed);
    auto files = std::make_shared<Result<ApplyReport>>(ApplyReport{});
    offload(
        [this, files, program_status, failure, was_killed]() -> Status {
            const auto record_end = [&]() -> Status {
                if (commits_.state().end) return {};
                PPDSM_TRY(output_.sync());
                PPDSM_ASSIGN(const OwnedFd directory, open_file(setup_.paths.directory, O_RDONLY));
                // The layers are applied from the disk, after a reboot too.
                if (::syncfs(directory.get()) != 0) return fail_errno("make the files durable");
                fault_point("before-end");
                return commits_.end({program_status, output_.size_bytes(), failure});
            };
            PPDSM_TRY(record_end());
            fault_point("ended");
            *files = apply_files(was_killed);
            return {};
        },
        [this, files, program_status](const Status& recorded) {
            if (!recorded) return fail_run(recorded.error());
            on_finished_job(program_status, *files);
        });
}

/// The layers become a last generation, without a process, from which the deployer writes home.
void Executor::finish_elsewhere(int program_status, const std::string& failure, bool was_killed) {
    auto files = std::make_shared<std::optional<GenerationRecord>>();
    cut_ = {};
    cut_.output_bytes = output_.size_bytes();
    offload(
        [this, files, was_killed]() -> Status {
            PPDSM_TRY(output_.sync());
            if (was_killed) return {};
            PPDSM_ASSIGN(*files, checkpointer_->prepare_files(cut_));
            fault_point("before-end");
            return {};
        },
        [this, files, program_status, failure](const Status& prepared) {
            if (!prepared) return fail_run(prepared.error());
            const EndRecord end{program_status, cut_.output_bytes, failure};
            setup_.authority->end(end, *files, await([this, end](const Status& accepted) {
                                      if (!accepted) return fail_run(accepted.error());
                                      Outcome outcome;
                                      outcome.exit_code = shell_exit_code(end.wait_status);
                                      outcome.failure = end.failure;
                                      conclude(std::move(outcome));
                                  }));
        });
}

void Executor::on_finished_job(int program_status, const Result<ApplyReport>& files) {
    release(commits_.state().end->output_bytes);
    Outcome outcome;
    outcome.exit_code = shell_exit_code(program_status);
    outcome.failure = commits_.state().end->failure;
    if (files) {
        outcome.files = *files;
    } else {
        outcome.exit_code = kFailedExitCode;
        outcome.failure = files.error().within("write the files at home").message();
    }
    conclude(std::move(outcome));
}

void Executor::fail_run(const Error& error) {
    if (phase_ == Phase::kEnded) return;
    checkpoint_timer_.stop();
    watchdog_.stop();
    warden_poller_.reset();
    warden_.reset();
    init_.reset();
    if (busy_) {
        // The job uses what the end would take away.
        phase_ = Phase::kEnding;
        if (!failed_while_busy_) failed_while_busy_ = error;
        return;
    }
    Outcome outcome;
    outcome.exit_code = kFailedExitCode;
    outcome.failure = error.message();
    outcome.failure_code = error.code();
    conclude(std::move(outcome));
}

void Executor::conclude(Outcome outcome) {
    phase_ = Phase::kEnded;
    timeout_.stop();
    end_timer_.stop();
    finish_checkpoint(fail(Code::kUnavailable, "the program has ended"));
    outcome.refusals = read_refusals(setup_.paths.refusals(), !setup_.remote_files);
    notify([&](RunObserver& observer) { observer.on_finished(outcome); });
}

void Executor::on_output(Stream stream, ByteView data) {
    notify([&](RunObserver& observer) { observer.on_preview(stream, data); });
    if (releases_live()) release(output_.size_bytes());
    watch_output_size();
}

/// Output is held until a checkpoint covers it; this bounds how much that can be.
void Executor::watch_output_size() {
    const std::uint64_t waiting_bytes =
        output_.size_bytes() - std::min(released_bytes_, output_.size_bytes());
    streams_.hold(reader_is_behind_ || waiting_bytes > kMostOutputBytes);
    if (waiting_bytes > kEarlyOutputBytes && failures_in_a_row_ == 0 && !streams_.catching_up()) {
        loop_.post([this] { begin_checkpoint(); });
    }
}

void Executor::hold_output(bool reader_is_behind) {
    reader_is_behind_ = reader_is_behind;
    watch_output_size();
}

bool Executor::releases_live() const {
    return setup_.record.checkpoint_every_ms < 0 || unprotected_;
}

void Executor::release(std::uint64_t output_bytes) {
    if (output_bytes <= released_bytes_ && released_bytes_ != 0) return;
    released_bytes_ = output_bytes;
    notify([&](RunObserver& observer) { observer.on_released(output_bytes); });
    streams_.hold(reader_is_behind_);
}

bool Executor::wants_input() const {
    return !input_.ended() &&
           (phase_ == Phase::kRunning || phase_ == Phase::kDumping || phase_ == Phase::kStoring) &&
           streams_.unread_input_bytes() < kMaxUnreadInputBytes;
}

void Executor::give_input(ByteView data) {
    if (Status kept = input_.append_data(data); !kept)
        return fail_run(kept.error().within("stdin"));
    streams_.feed();
}

void Executor::end_input() {
    if (Status kept = input_.append_end(); !kept) return fail_run(kept.error().within("stdin"));
    streams_.feed();
}

void Executor::resize_terminal(unsigned short rows, unsigned short columns) {
    streams_.resize_terminal(rows, columns);
}

void Executor::forward_signal(int signal) {
    if (Status kept = input_.append_signal(signal); !kept) return fail_run(kept.error());
    if (const pid_t program = program_of(init_pid()); program > 0) {
        signal_group(program, signal);
    } else {
        early_signals_.push_back(signal);
    }
}

void Executor::kill(std::string reason) {
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) return;
    kill_reason_ = std::move(reason);
    // Not init alone: CRIU may have it in its hands.
    if (warden_) warden_->kill();
}

void Executor::on_timeout() {
    kill(fmt::format("ended after --timeout {} s", setup_.record.timeout_ms / 1000));
}

}  // namespace ppdsm
