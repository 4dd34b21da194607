// What a worker tells its deployer, and what becomes true by it.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "runtime/peer/checkpointer.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/mesh/deployment.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr const char* kTakenOver = "another incarnation has taken over";

}  // namespace

void Deployment::on_event(const PeerId& from, std::uint64_t epoch, const Json& head, Bytes data) {
    const std::string event = head.value("event", "");
    if (event == "hosting") return on_hosting(from, epoch, head);
    if (epoch != epoch_ || !worker_ || from != *worker_) {
        // Of an incarnation that was given up: it is told so, and nothing of it counts.
        return fence(services_.mesh, from, {paths_.id(), epoch}, kTakenOver);
    }
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) return;
    if (event == "propose") return on_proposal(head);
    if (event == "propose-unprotected") return on_unprotected(head);
    if (event == "propose-end") return on_end_proposal(head);
    if (event == "lost") return lose_worker(utf8_to_bytes(head.value("cause", "it was lost")));
    if (event == "finished") return on_failed(head);
    on_progress(event, head, data);
}

void Deployment::on_hosting(const PeerId& from, std::uint64_t epoch, const Json& head) {
    const bool is_current = epoch == epoch_ && worker_ && from == *worker_ &&
                            (phase_ == Phase::kRunning || phase_ == Phase::kDeploying);
    if (!is_current) return fence(services_.mesh, from, {paths_.id(), epoch}, kTakenOver);
    phase_ = Phase::kRunning;
    grace_timer_.stop();
    sent_input_bytes_ = head.value("input_bytes", std::uint64_t{0});
    taken_input_bytes_ = sent_input_bytes_;
    sent_signals_ = head.value("input_signals", std::uint64_t{0});
    sent_input_end_ = false;
    command({{"do", "continue"}, {"output", output_.size_bytes()}});
    send_input();
    if (kill_reason_) command({{"do", "kill"}, {"reason", bytes_to_utf8(*kill_reason_)}});
    notify([](RunObserver& observer) { observer.on_started(0); });
    // What was said while the link was gone is lost.
    tell_replicas();
    go_on_moving();
}

void Deployment::on_output(const PeerId& from, std::uint64_t epoch, std::uint64_t offset_bytes,
                           ByteView frames) {
    if (epoch != epoch_ || !worker_ || from != *worker_) return;
    if (phase_ != Phase::kRunning && phase_ != Phase::kDeploying) return;
    const std::uint64_t have = output_.size_bytes();
    if (offset_bytes > have || offset_bytes + frames.size() <= have) return;
    const Status kept = output_.append_frames(frames.subspan(have - offset_bytes));
    if (!kept) {
        notify([&](RunObserver& observer) { observer.on_output_stalled(kept.error()); });
        return;
    }
    if (truth_.unprotected) release(output_.size_bytes());
}

void Deployment::answer(std::uint64_t token, const Status& status) {
    Json head = {{"do", "accept"}, {"token", token}};
    if (!status) head["error"] = error_to_json(status.error());
    command(head);
}

void Deployment::on_proposal(const Json& head) {
    const std::uint64_t token = head.value("token", std::uint64_t{0});
    const Result<GenerationRecord> record = parse_generation(head.value("record", ""));
    if (!record) return answer(token, fail(record.error()));
    if (record->output_bytes > output_.size_bytes()) {
        return answer(token, fail(Code::kUnavailable, "its output has not come"));
    }
    Copies copies{peers_from_json(head.value("replicas", Json::array())), failures_from_json(head)};
    copies.holders.push_back(*worker_);
    auto at_home = std::make_shared<Status>();
    const bool is_wanted_home =
        record_.files == FilesMode::kCommit && contains(copies.holders, services_.mesh.self().id);
    job(
        [this, record = *record, epoch = epoch_, at_home, is_wanted_home]() -> Status {
            PPDSM_TRY(commit(record, epoch));
            if (is_wanted_home) *at_home = write_files(record);
            return {};
        },
        [this, record = *record, copies = std::move(copies), token, epoch = epoch_,
         at_home](const Status& committed) {
            if (epoch != epoch_) return;
            answer(token, committed);
            if (!committed) return;
            if (!*at_home) {
                notify([&](RunObserver& o) { o.on_files_not_written(at_home->error()); });
            }
            on_committed(record, copies);
        });
}

/// The moment at which a generation becomes true.
Status Deployment::commit(const GenerationRecord& record, std::uint64_t epoch) {
    // Its incarnation has been given up while this waited.
    if (epoch != commits_.state().epoch) return fail(Code::kStaleEpoch, kTakenOver);
    const GenerationRecord* last = commits_.state().last();
    // Told again after the link had gone: it is true already.
    if (last != nullptr && last->generation == record.generation &&
        last->manifest == record.manifest) {
        return {};
    }
    PPDSM_TRY(output_.sync());
    fault_point("deployer-commit");
    PPDSM_TRY(commits_.commit(record));
    fault_point("deployer-committed");
    return {};
}

void Deployment::on_committed(const GenerationRecord& record, const Copies& copies) {
    failures_ = 0;
    holders_ = copies.holders;
    for (const placement::Candidate& each : services_.survey()) {
        if (each.peer == holders_.back()) made_on_ = each.cpu;
    }
    note_placement();
    if (copies.failures.text != missing_copies_) {
        missing_copies_ = copies.failures.text;
        if (!missing_copies_.empty()) {
            say(fmt::format("generation {} has {} of {} copies elsewhere: {}", record.generation,
                            holders_.size() - 1, replicas_.size(), missing_copies_));
        }
    }
    statistics_.add(record);
    if (is_thread()) services_.threads.on_covered(record_, covered_calls());
    notify([&](RunObserver& observer) { observer.on_committed(record); });
    release(record.output_bytes);
    for (auto& [waiting, done] : std::exchange(checkpoints_, {})) done(record);
    note_unable(copies.failures.unable);
    if (move_) advance_move(true, copies.failures);
}

/// Of the oldest generation that an executor may go back to.
std::uint64_t Deployment::covered_calls() const {
    const std::vector<GenerationRecord>& all = truth_.generations;
    const std::size_t kept = std::min<std::size_t>(all.size(), record_.keep_generations);
    return kept == 0 ? 0 : all[all.size() - kept].calls;
}

void Deployment::on_unprotected(const Json& head) {
    const std::uint64_t token = head.value("token", std::uint64_t{0});
    job([this] { return commits_.note_unprotected(); },
        [this, token](const Status& noted) {
            answer(token, noted);
            if (noted) release(output_.size_bytes());
        });
}

void Deployment::on_end_proposal(const Json& head) {
    const std::uint64_t token = head.value("token", std::uint64_t{0});
    EndRecord end;
    end.wait_status = head.value("status", 0);
    end.output_bytes = head.value("output", std::uint64_t{0});
    end.failure = utf8_to_bytes(head.value("failure", ""));
    std::optional<GenerationRecord> files;
    if (head.contains("files")) {
        const Result<GenerationRecord> record = parse_generation(head.value("files", ""));
        if (!record) return answer(token, fail(record.error()));
        files = *record;
    }
    if (end.output_bytes > output_.size_bytes()) {
        return answer(token, fail(Code::kUnavailable, "its output has not come"));
    }
    phase_ = Phase::kEnding;
    const std::string refusals = utf8_to_bytes(head.value("refusals", ""));
    job(
        [this, end, files, refusals]() -> Status {
            PPDSM_TRY(output_.truncate(end.output_bytes));
            PPDSM_TRY(output_.sync());
            PPDSM_TRY(replace_file(paths_.refusals(), as_bytes(refusals), 0600));
            if (files)
                PPDSM_TRY(
                    replace_file(paths_.last_files(), as_bytes(format_generation(*files)), 0600));
            fault_point("deployer-end");
            return commits_.end(end);
        },
        [this, token](const Status& ended) {
            answer(token, ended);
            if (!ended) {
                return conclude({.exit_code = kFailedExitCode, .failure = ended.error().message()});
            }
            finish();
        });
}

/// The end is true: what is left is to write its files home, as often as it takes.
void Deployment::finish() {
    release(truth_.end->output_bytes);
    job(
        [this]() -> Status {
            if (commits_.state().applied) return {};
            const Result<std::string> text = read_text(paths_.last_files());
            if (text) {
                PPDSM_ASSIGN(const GenerationRecord files, parse_generation(*text));
                PPDSM_TRY(write_files(files));
            } else if (text.error().code() != Code::kNotFound) {
                return fail(text.error());
            }
            fault_point("deployer-applied");
            return commits_.note_applied();
        },
        [this](const Status& written) {
            const EndRecord& end = *truth_.end;
            Outcome outcome;
            outcome.exit_code = shell_exit_code(end.wait_status);
            outcome.failure = end.failure;
            outcome.files = home_files_.report();
            if (!written) {
                outcome.exit_code = kFailedExitCode;
                outcome.failure = written.error().within("write the files at home").message();
            }
            conclude(std::move(outcome));
        });
}

Status Deployment::write_files(const GenerationRecord& files) {
    const VcPaths hosted = services_.home.hosted(paths_.id());
    PPDSM_ASSIGN(const OwnedFd pin, pin_generations(hosted));
    PPDSM_ASSIGN(const Manifest manifest, load_manifest(hosted, files));
    PPDSM_ASSIGN(const std::unique_ptr<ChunkStore> store,
                 ChunkStore::open(hosted.chunks(), ChunkStore::Mode::kRead));
    const std::filesystem::path directory = paths_.directory / "homeward";
    for (const Layer& layer : manifest.layers) {
        if (!is_at_home(layer.name)) continue;
        PPDSM_TRY(remove_tree(directory));
        PPDSM_TRY(restore_layer(*store, layer, directory));
        PPDSM_TRY(home_files_.write(layer.name, directory));
    }
    PPDSM_TRY(home_files_.save());
    return remove_tree(directory);
}

/// The executor gave up: perhaps another machine can.
void Deployment::on_failed(const Json& head) {
    const Outcome outcome = outcome_from_json(head);
    const bool elsewhere = outcome.failure_code && (*outcome.failure_code == Code::kIo ||
                                                    *outcome.failure_code == Code::kOverloaded ||
                                                    *outcome.failure_code == Code::kUnavailable);
    command({{"do", "leave"}});
    if (elsewhere && failures_ < kMaxFailures) {
        if (worker_) refused_.insert(*worker_);
        return lose_worker(outcome.failure);
    }
    conclude(outcome);
}

void Deployment::on_progress(const std::string& event, const Json& head, ByteView data) {
    const auto error = [&] { return error_from_json(head.value("error", Json())); };
    if (event == "call") {
        const auto call = calls_.take(head, data);
        if (call && is_thread()) services_.threads.on_call(record_, call->bytes);
    } else if (event == "started") {
        if (is_thread()) services_.threads.on_placed(record_, services_.mesh.find(*worker_)->name);
        program_pid_ = head.value("pid", 0);
        if (is_moved_to(*worker_)) {
            say("moved to " + services_.mesh.describe(*worker_));
            end_move({});
        } else if (epoch_ > 1) {
            say("goes on at " + services_.mesh.describe(*worker_));
        }
        notify([&](RunObserver& o) { o.on_started(program_pid_); });
    } else if (event == "restored") {
        if (is_moved_to(*worker_)) return;  // It never died.
        ++statistics_.restores;
        notify([&](RunObserver& o) { o.on_restored(head.value("generation", std::uint64_t{0})); });
    } else if (event == "died") {
        notify([&](RunObserver& o) { o.on_died(utf8_to_bytes(head.value("cause", ""))); });
    } else if (event == "checkpoint-failed") {
        for (auto& [token, done] : std::exchange(checkpoints_, {})) done(fail(error()));
        if (move_) end_move(fail(error()));
        notify([&](RunObserver& o) {
            o.on_checkpoint_failed(error(), head.value("protected", false));
        });
    } else if (event == "stalled") {
        notify([&](RunObserver& o) { o.on_output_stalled(error()); });
    } else if (event == "input-taken") {
        taken_input_bytes_ += head.value("bytes", std::uint64_t{0});
        send_input();
    } else if (event == "preview") {
        const Stream stream = head.value("stream", 1) == 2 ? Stream::kStderr : Stream::kStdout;
        notify([&](RunObserver& o) { o.on_preview(stream, data); });
    } else if (event == "replicated") {
        const GenerationRecord* last = truth_.last();
        const std::uint64_t copied = head.value("generation", std::uint64_t{0});
        if (last == nullptr || last->generation != copied) return;
        for (const PeerId& peer : peers_from_json(head.value("replicas", Json::array()))) {
            if (!contains(holders_, peer)) holders_.push_back(peer);
        }
        note_placement();
        const CopyFailures failures = failures_from_json(head);
        note_unable(failures.unable);
        if (move_) advance_move(false, failures);
    }
}

/// The last word, which may have to be written down first.
void Deployment::conclude(Outcome outcome) {
    if (std::exchange(is_concluded_, true)) return;
    const bool has_end = truth_.end.has_value();
    phase_ = has_end ? Phase::kEnded : Phase::kEnding;
    if (move_) end_move(fail(Code::kUnavailable, "the program has ended"));
    for (auto& [token, done] : std::exchange(checkpoints_, {})) {
        done(fail(Code::kUnavailable, "the program has ended"));
    }
    if (has_end) return tell_end(std::move(outcome));
    command({{"do", "fence"}, {"why", "the computation has ended"}});
    const EndRecord end{outcome.exit_code << 8, released_bytes_, outcome.failure};
    job(
        [this, end]() -> Status {
            PPDSM_TRY(output_.truncate(end.output_bytes));
            PPDSM_TRY(commits_.end(end));
            return commits_.note_applied();
        },
        [this, outcome = std::move(outcome)](const Status& noted) {
            if (!noted) services_.log->error("vc={} {}", paths_.id(), noted.error().message());
            phase_ = Phase::kEnded;
            tell_end(outcome);
        });
}

void Deployment::tell_end(Outcome outcome) {
    outcome.refusals = read_refusals(paths_.refusals());
    outcome_ = outcome;
    if (is_thread()) services_.threads.on_ended(record_, outcome);
    notify([&](RunObserver& observer) { observer.on_finished(outcome); });
    services_.loop.post([this, alive = alive_] {
        if (*alive && on_ended_) on_ended_();
    });
}

}  // namespace ppdsm
