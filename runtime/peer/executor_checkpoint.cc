// The executor's checkpoints: copy files ahead, freeze, cut, let run, store, commit, release.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>

#include "criu-glue/criu/explain.h"
#include "dsm/base/wall_clock.h"
#include "runtime/peer/executor.h"
#include "runtime/peer/fault_point.h"

namespace ppdsm {

namespace {

constexpr std::int64_t kAutoIntervalMs = 10'000;
constexpr std::int64_t kPauseStretch = 100;  // At most one part in a hundred of the time is pause.
constexpr std::uint32_t kMaxBackoff = 6;
constexpr std::uint64_t kSecondTryMs = 250;

}  // namespace

void Executor::schedule_checkpoint() {
    const std::int64_t every_ms = setup_.record.checkpoint_every_ms;
    if (every_ms < 0) return;
    std::int64_t delay_ms =
        every_ms > 0 ? every_ms : std::max(kAutoIntervalMs, kPauseStretch * last_pause_us_ / 1000);
    delay_ms <<= std::min(failures_in_a_row_, kMaxBackoff);
    checkpoint_timer_.start(static_cast<std::uint64_t>(delay_ms));
}

void Executor::checkpoint(CheckpointDone done) {
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) {
        return done(fail(Code::kUnavailable, "the program has ended"));
    }
    waiting_.push_back(std::move(done));
    begin_checkpoint();
}

void Executor::begin_checkpoint() {
    if (phase_ != Phase::kRunning || busy_) return;  // See on_frozen() for whom that one serves.
    checkpoint_timer_.stop();
    if (!setup_.criu) return checkpoint_failed(Error(Code::kUnsupported, setup_.criu_problem));
    if (streams_.catching_up()) {
        // No generation may lie between what was released and what it comes from.
        finish_checkpoint(
            fail(Code::kUnavailable, "the program is still repeating released output"));
        return schedule_checkpoint();
    }
    phase_ = Phase::kDumping;
    offload(
        [this] {
            fault_point("precopy");
            return checkpointer_->precopy();
        },
        [this](const Status& copied) {
            if (ended_while_busy_) return;
            if (!copied) return checkpoint_failed(copied.error());
            fault_point("dump");
            watchdog_.start(kCriuBaseMs + resident_bytes(init_pid()) / kCriuBytesPerMs);
            const Status sent = warden_->socket().send({WardenMessage::Type::kDump, {}, {}, {}});
            if (!sent) checkpoint_failed(sent.error());
        });
}

std::vector<FileIdentity> Executor::mapped_writable_files() const {
    std::vector<FileIdentity> files;
    for (const std::string& path : shared_writable_mappings(init_pid())) {
        for (const WritablePlace& place : view_.places) {
            if (!path.starts_with(place.target + "/")) continue;
            struct stat info{};
            const std::filesystem::path ours = place.upper / path.substr(place.target.size() + 1);
            if (::lstat(ours.c_str(), &info) == 0) files.push_back({info.st_dev, info.st_ino});
        }
    }
    return files;
}

/// How much of stdin is consumed. A program that was killed a moment ago is in the images as it is,
/// dead: such a generation would bring back nothing.
Result<std::uint64_t> Executor::cut_streams() {
    if (is_program_lost(init_pid())) {
        return fail(Code::kUnavailable, "the program has just ended");
    }
    return streams_.cut();
}

void Executor::on_frozen() {
    const std::int64_t begun_us = monotonic_now_us();
    fault_point("frozen");
    // Who asks from here on wants a later state than this one.
    std::move(waiting_.begin(), waiting_.end(), std::back_inserter(served_));
    waiting_.clear();
    cut_ = {};
    const Result<std::uint64_t> consumed = cut_streams();
    cut_.input_bytes = consumed.value_or(0);
    cut_.output_bytes = output_.size_bytes();
    cut_.input_signals = input_.signal_count();
    // The link has seen none before the first that comes after a restore.
    cut_.calls = link_ ? std::max(restored_calls_, link_->answered_calls()) : 0;
    cut_.terminal = setup_.record.terminal;
    if (!cut_.terminal) cut_.stdio_keys = streams_.keys();
    const Status layers =
        consumed ? checkpointer_->cut(mapped_writable_files()) : fail(consumed.error());
    cut_.cut_us = static_cast<std::uint32_t>(monotonic_now_us() - begun_us);
    const Status told =
        warden_->socket().send({WardenMessage::Type::kCutDone, {layers ? 1U : 0U, 0}, {}, {}});
    // The warden answers with a failure then; if it cannot be told, it is dead and soon seen so.
    if (!layers) cut_error_ = layers.error();
    (void)told;
}

void Executor::on_dumped(WardenMessage message) {
    watchdog_.stop();
    phase_ = Phase::kStoring;
    auto images = std::make_shared<OwnedFd>(std::move(message.fds.at(0)));
    auto stored = std::make_shared<Result<GenerationRecord>>(GenerationRecord{});
    offload(
        [this, images, stored]() -> Status {
            *stored = checkpointer_->prepare(*images, cut_);
            return {};
        },
        [this, stored](const Status& /*done*/) {
            if (!*stored) return on_stored(*stored);
            propose(**stored);
        });
}

/// The generation is durable here, and not true yet.
void Executor::propose(const GenerationRecord& record) {
    if (setup_.authority == nullptr) return seal(record);
    setup_.authority->commit(record, await([this, record](const Status& accepted) {
                                 if (!accepted) return on_stored(fail(accepted.error()));
                                 seal(record);
                             }));
}

void Executor::seal(const GenerationRecord& record) {
    auto sealed = std::make_shared<Status>();
    offload(
        [this, record, sealed]() -> Status {
            *sealed = checkpointer_->commit(record);
            if (!*sealed) return {};
            Status at_home;
            if (setup_.record.files == FilesMode::kCommit && setup_.authority == nullptr) {
                at_home = apply_generation(record);
            }
            (void)checkpointer_->retire(setup_.record.keep_generations);  // Tried again next time.
            return at_home;
        },
        [this, record, sealed](const Status& at_home) {
            if (!*sealed) return on_stored(fail(sealed->error()));
            if (!at_home) {
                notify([&](RunObserver& o) { o.on_files_not_written(at_home.error()); });
            }
            on_stored(record);
        });
}

void Executor::on_stored(const Result<GenerationRecord>& stored) {
    if (!stored) return checkpoint_failed(stored.error());
    phase_ = Phase::kRunning;
    failures_in_a_row_ = 0;
    known_memory_kills_ = limits_.out_of_memory_kills();
    unprotected_ = false;
    last_pause_us_ = stored->pause_us;
    statistics_.add(*stored);
    notify([&](RunObserver& observer) { observer.on_committed(*stored); });
    release(stored->output_bytes);
    finish_checkpoint(stored);
    if (!waiting_.empty()) return begin_checkpoint();
    schedule_checkpoint();
}

void Executor::checkpoint_failed(const Error& error) {
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) return;
    watchdog_.stop();
    checkpointer_->abandon();
    phase_ = Phase::kRunning;
    ++failures_in_a_row_;
    Error explained = explain_criu_failure(error);
    if (explained.code() == Code::kUnavailable) {
        // Perhaps only a process that ended under CRIU's hands. What happens again is no accident.
        if (failures_in_a_row_ == 1) return checkpoint_timer_.start(kSecondTryMs);
        if (error.code() == Code::kUnsupported) {
            explained = Error(Code::kUnsupported, explained.what());
        }
    }
    const bool is_protected = !commits_.state().generations.empty();
    notify([&](RunObserver& observer) { observer.on_checkpoint_failed(explained, is_protected); });
    finish_checkpoint(fail(explained));
    if (setup_.record.require_checkpoints && explained.code() == Code::kUnsupported) {
        return fail_run(explained.within("--require-checkpoints"));
    }
    if (!is_protected && explained.code() == Code::kUnsupported) {
        become_unprotected();
    }
    if (setup_.criu) schedule_checkpoint();
}

/// From here on there is nothing to go back to: what the program writes is released at once.
void Executor::become_unprotected() {
    if (Status noted = commits_.note_unprotected(); !noted) return fail_run(noted.error());
    unprotected_ = true;
    if (setup_.authority == nullptr) return release(output_.size_bytes());
    setup_.authority->note_unprotected([this](const Status& noted) {
        if (!noted) return fail_run(noted.error());
        release(output_.size_bytes());
    });
}

void Executor::finish_checkpoint(const Result<GenerationRecord>& result) {
    for (const CheckpointDone& done : std::exchange(served_, {})) done(result);
    if (result) return;
    for (const CheckpointDone& done : std::exchange(waiting_, {})) done(result);
}

}  // namespace ppdsm
