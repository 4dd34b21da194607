#include "runtime/peer/replication/replica_pull.h"

#include <algorithm>
#include <string>
#include <utility>

#include "criu-glue/manifest/manifest.h"

namespace ppdsm {

namespace {
/// Answers that one job takes: with more, the sources would have nothing to do meanwhile.
constexpr std::size_t kAnswersPerJob = 2;
constexpr std::size_t kLeastNamesPerRequest = 32;
}  // namespace

ReplicaPull::ReplicaPull(Loop& loop, PullOptions options, RunJob run_job, GenerationOffer offer,
                         OnEnd ended)
    : loop_(loop),
      options_(options),
      run_job_(std::move(run_job)),
      offer_(std::move(offer)),
      ended_(std::move(ended)) {}

void ReplicaPull::add_source(std::shared_ptr<ChunkSource> source) {
    if (over_ || sources_.size() >= kMaxSources) return;
    sources_.push_back({std::move(source), true, 0, loop_.now_ms(), {}});
    if (begun_ && !failure_) step();
}

void ReplicaPull::start() {
    stall_timer_ = std::make_unique<Timer>(loop_, [this] { check_stalls(); });
    const std::uint64_t period_ms = std::max<std::uint64_t>(options_.stall_ms / 4, 1);
    stall_timer_->start(period_ms, period_ms);
    if (!offer_.manifest.empty()) {
        manifest_ = std::exchange(offer_.manifest, {});
        begin();
    } else if (offer_.manifest_bytes == 0 || offer_.manifest_bytes > kMaxManifestBytes) {
        give_up({Code::kInvalid,
                 "a manifest of " + std::to_string(offer_.manifest_bytes) + " bytes is offered"});
    } else {
        fetch_manifest();
    }
}

// --- The manifest, where it is too long for the offer.

void ReplicaPull::fetch_manifest() {
    ++manifest_try_;
    manifest_pieces_.clear();
    manifest_next_bytes_ = 0;
    for (std::size_t i = 0; i < options_.requests_in_flight; ++i) ask_manifest_piece();
}

void ReplicaPull::ask_manifest_piece() {
    if (over_ || failure_ || manifest_next_bytes_ >= offer_.manifest_bytes) return;
    const std::optional<std::size_t> source = choose_source();
    if (!source) return give_up({Code::kUnavailable, "there is nobody to have the manifest from"});
    const std::uint64_t offset_bytes = manifest_next_bytes_;
    manifest_next_bytes_ += kManifestPieceBytes;
    note_request(*source);
    sources_[*source].source->request_manifest(
        {offer_.vc, offer_.generation, offer_.manifest_name, offset_bytes},
        [weak = weak_from_this(), source, offset_bytes,
         attempt = manifest_try_](const Result<ManifestPiece>& piece) {
            const auto self = weak.lock();
            if (!self || self->over_ || attempt != self->manifest_try_) return;
            self->take_manifest_piece(*source, offset_bytes, piece);
        });
}

void ReplicaPull::take_manifest_piece(std::size_t source, std::uint64_t offset_bytes,
                                      const Result<ManifestPiece>& piece) {
    Source& from = sources_[source];
    if (!from.alive || failure_) return;
    if (from.requests > 0) --from.requests;
    from.last_heard_ms = loop_.now_ms();
    if (!piece) return fail_source(source, piece.error());
    const Result<ManifestPieceContent> content = read_manifest_piece(*piece);
    if (!content) return fail_source(source, content.error());
    const std::uint64_t expected_bytes =
        std::min<std::uint64_t>(kManifestPieceBytes, offer_.manifest_bytes - offset_bytes);
    if (content->offset_bytes != offset_bytes || content->content.size() != expected_bytes) {
        return fail_source(source, {Code::kCorrupt, "ManifestPiece: not the one asked for"});
    }
    manifest_pieces_[offset_bytes].assign(content->content.begin(), content->content.end());
    if (manifest_pieces_.size() * kManifestPieceBytes < offer_.manifest_bytes) {
        return ask_manifest_piece();
    }
    manifest_.clear();
    manifest_.reserve(offer_.manifest_bytes);
    for (const auto& [offset, bytes] : manifest_pieces_) {
        manifest_.insert(manifest_.end(), bytes.begin(), bytes.end());
    }
    manifest_pieces_.clear();
    if (ChunkId::of(manifest_) == offer_.manifest_name) return begin();
    fail_source(source, {Code::kCorrupt, "the manifest is not the one that was offered"});
}

void ReplicaPull::begin() {
    auto held = std::make_shared<Result<bool>>(false);
    working_ = true;
    run_job_([self = shared_from_this(),
              held](ReplicaStore& store) { *held = store.begin(self->offer_, self->manifest_); },
             [self = shared_from_this(), held] {
                 self->working_ = false;
                 self->manifest_ = {};
                 if (self->over_) return;
                 if (!*held) return self->end(fail(held->error()));
                 if (**held) return self->end(PullReport{});
                 self->begun_ = true;
                 self->failure_ ? self->give_up(*self->failure_) : self->step();
             });
}

// --- Chunks.

void ReplicaPull::step() {
    if (working_ || over_ || failure_ || !begun_) return;
    auto step = std::make_shared<Step>();
    while (!answers_.empty() && step->answers.size() < kAnswersPerJob) {
        step->answers.push_back(std::move(answers_.front()));
        answers_.pop_front();
    }
    // Answers that wait keep their requests' places: so what is in memory is bounded.
    const std::size_t taken = requests_.size() + answers_.size();
    step->free_requests =
        options_.requests_in_flight > taken ? options_.requests_in_flight - taken : 0;
    step->names_per_request = names_per_request_;
    if (step->answers.empty() && step->free_requests == 0) return;
    working_ = true;
    run_job_([step](ReplicaStore& store) { Step::run(*step, store); },
             [self = shared_from_this(), step] {
                 self->working_ = false;
                 if (!self->over_) self->take_step(*step);
             });
}

void ReplicaPull::Step::run(Step& step, ReplicaStore& store) {
    for (Answer& answer : step.answers) {
        if (!answer.batch) {
            store.ask_again(answer.request.names);
            step.verdicts.emplace_back();
            step.lacking.emplace_back();
            step.came.push_back(0);
            continue;
        }
        Result<ReplicaStore::Accepted> accepted = store.accept(answer.request.names, *answer.batch);
        if (!accepted) {
            step.outcome = fail(accepted.error());
            return;
        }
        step.verdicts.push_back(accepted->answer);
        step.lacking.push_back(std::move(accepted->lacking));
        step.came.push_back(accepted->came);
    }
    while (step.next.size() < std::max<std::size_t>(step.free_requests, 1)) {
        Result<std::vector<ChunkId>> names =
            store.next_request(step.free_requests == 0 ? 0 : step.names_per_request);
        if (!names) {
            step.outcome = fail(names.error());
            return;
        }
        if (names->empty()) break;
        step.next.push_back(std::move(*names));
    }
    if (store.complete()) step.outcome = store.finish();
}

void ReplicaPull::take_step(Step& step) {
    if (step.outcome) {
        if (!*step.outcome) return give_up(step.outcome->error());
        (*step.outcome)->sent_bytes = sent_bytes_;
        return end(std::move(*step.outcome));
    }
    if (failure_) return give_up(*failure_);
    for (std::size_t i = 0; i < step.answers.size(); ++i) {
        const Request& request = step.answers[i].request;
        if (!step.verdicts[i]) {
            fail_source(request.source, step.verdicts[i].error());
        } else {
            relocate(request.source, step.lacking[i]);
            adapt(step.answers[i], step.came[i]);
        }
        if (over_ || failure_) return;
    }
    for (std::vector<ChunkId>& names : step.next) {
        const std::optional<std::size_t> source = choose_source();
        if (!source) return give_up({Code::kUnavailable, "there is nobody to have chunks from"});
        send(*source, std::move(names));
    }
    send_queued();
    if (over_ || failure_) return;
    if (!answers_.empty()) return this->step();
}

/// So that an answer is full and little is asked for twice; whole blocks are then mostly asked for
/// as such.
void ReplicaPull::adapt(const Answer& answer, std::size_t came) {
    const std::size_t asked = answer.request.names.size();
    if (!answer.batch || came == 0 || asked < names_per_request_) return;
    if (came == asked && answer.batch->payload.size() < kMaxChunkMessageBytes / 2) {
        names_per_request_ = std::min(2 * names_per_request_, kMaxNamesPerRequest);
    } else if (came < asked) {
        names_per_request_ =
            std::clamp(came + came / 4, kLeastNamesPerRequest, kMaxNamesPerRequest);
    }
}

/// What one source lacks is asked of another; each source says so at most once of each chunk.
void ReplicaPull::relocate(std::size_t from, const std::vector<ChunkId>& names) {
    for (const ChunkId& id : names) {
        std::uint32_t& lacks = lacking_[id];
        lacks |= std::uint32_t{1} << from;
        std::optional<std::size_t> chosen;
        for (std::size_t i = 0; i < sources_.size(); ++i) {
            if (!sources_[i].alive || ((lacks >> i) & 1U) != 0) continue;
            if (!chosen || sources_[i].queue.size() < sources_[*chosen].queue.size()) chosen = i;
        }
        if (!chosen) {
            return give_up(
                {Code::kNotFound, "chunk " + id.to_string() + ": no source has it any more"});
        }
        sources_[*chosen].queue.push_back(id);
    }
}

void ReplicaPull::send_queued() {
    for (std::size_t i = 0; i < sources_.size(); ++i) {
        std::vector<ChunkId>& queue = sources_[i].queue;
        if (!sources_[i].alive || queue.empty() || sources_[i].requests > 0) continue;
        const std::size_t count = std::min(queue.size(), names_per_request_);
        const auto first = queue.end() - static_cast<std::ptrdiff_t>(count);
        std::vector<ChunkId> names(first, queue.end());
        queue.erase(first, queue.end());
        send(i, std::move(names));
    }
}

void ReplicaPull::send(std::size_t source, std::vector<ChunkId> names) {
    const std::uint64_t number = next_request_++;
    ChunkRequest request{offer_.vc, offer_.generation, names};
    sent_bytes_ += names.size() * sizeof(ChunkId);
    requests_[number] = {source, std::move(names)};
    note_request(source);
    sources_[source].source->request(std::move(request),
                                     [weak = weak_from_this(), number](Result<ChunkBatch> answer) {
                                         if (const auto self = weak.lock())
                                             self->take_answer(number, std::move(answer));
                                     });
}

void ReplicaPull::take_answer(std::uint64_t request, Result<ChunkBatch> answer) {
    const auto found = requests_.find(request);
    if (over_ || failure_ || found == requests_.end()) return;
    Source& from = sources_[found->second.source];
    from.last_heard_ms = loop_.now_ms();
    if (!answer) return fail_source(found->second.source, answer.error());
    --from.requests;
    answers_.push_back({std::move(found->second), std::move(*answer)});
    requests_.erase(found);
    step();
}

// --- Sources.

std::optional<std::size_t> ReplicaPull::choose_source() const {
    std::optional<std::size_t> chosen;
    for (std::size_t i = 0; i < sources_.size(); ++i) {
        if (!sources_[i].alive) continue;
        if (!chosen || sources_[i].requests < sources_[*chosen].requests) chosen = i;
    }
    return chosen;
}

void ReplicaPull::note_request(std::size_t source) {
    // The time runs from the first request that is owed.
    if (sources_[source].requests++ == 0) sources_[source].last_heard_ms = loop_.now_ms();
}

void ReplicaPull::fail_source(std::size_t source, const Error& why) {
    Source& failed = sources_[source];
    if (!failed.alive) return;
    failed.alive = false;
    failed.requests = 0;
    failed.source->end(offer_.vc, offer_.generation);
    if (!choose_source()) {
        const Error last = why.within(failed.source->name());
        return give_up({Code::kUnavailable, "no source is left; the last one, " + last.message()});
    }
    if (!begun_) return fetch_manifest();
    for (auto request = requests_.begin(); request != requests_.end();) {
        if (request->second.source != source) {
            ++request;
            continue;
        }
        answers_.push_back({std::move(request->second), std::nullopt});
        request = requests_.erase(request);
    }
    const std::vector<ChunkId> queue = std::exchange(failed.queue, {});
    relocate(source, queue);
    step();
}

void ReplicaPull::check_stalls() {
    const auto self = shared_from_this();
    const std::uint64_t now_ms = loop_.now_ms();
    for (std::size_t i = 0; i < sources_.size() && !over_ && !failure_; ++i) {
        const Source& source = sources_[i];
        if (!source.alive || source.requests == 0) continue;
        const std::uint64_t silent_ms = now_ms - source.last_heard_ms;
        if (silent_ms < options_.stall_ms) continue;
        fail_source(i, {Code::kUnavailable, "no answer for " + std::to_string(silent_ms) + " ms"});
    }
}

// --- Ends.

void ReplicaPull::cancel(const Error& why) {
    if (!over_) give_up(why);
}

void ReplicaPull::give_up(const Error& why) {
    failure_ = why;
    requests_.clear();
    answers_.clear();
    if (working_) return;  // The job's end comes back here.
    if (!begun_) {
        // Never from within the caller's call.
        loop_.post([self = shared_from_this()] {
            if (!self->over_) self->end(fail(*self->failure_));
        });
        return;
    }
    working_ = true;
    run_job_([why](ReplicaStore& store) { store.break_off(why); },
             [self = shared_from_this()] {
                 self->working_ = false;
                 if (!self->over_) self->end(fail(*self->failure_));
             });
}

void ReplicaPull::end(Result<PullReport> outcome) {
    OnEnd ended = std::move(ended_);
    stop();
    ended(std::move(outcome));
}

void ReplicaPull::stop() {
    if (over_) return;
    over_ = true;
    stall_timer_.reset();
    requests_.clear();
    answers_.clear();
    for (Source& source : sources_) {
        if (!source.alive) continue;
        source.alive = false;
        source.source->end(offer_.vc, offer_.generation);
    }
    sources_.clear();
}

}  // namespace ppdsm
