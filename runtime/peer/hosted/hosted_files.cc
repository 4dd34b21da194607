#include "runtime/peer/hosted/hosted_files.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "dsm/base/wall_clock.h"

namespace ppdsm {

namespace {

constexpr std::int64_t kProgressEveryUs = 5'000'000;
constexpr std::size_t kMostProblemsSaid = 10;

}  // namespace

/// Of replicas that are brought up to date.
struct HostedFiles::Round {
    Secured secured;
    std::size_t missing = 0;
    std::vector<PeerId> peers;
    std::map<PeerId, std::uint32_t> restarts;
    std::function<void(Result<Secured>)> done;
};

Result<std::unique_ptr<HostedFiles>> HostedFiles::open(Loop& loop, Mesh& mesh, MeshFiles& files,
                                                       Setup setup,
                                                       std::shared_ptr<spdlog::logger> log) {
    std::unique_ptr<HostedFiles> hosted(
        new HostedFiles(loop, mesh, files, std::move(setup), std::move(log)));
    const Setup& asked = hosted->setup_;
    hosted->source_ = files.source(asked.vc, asked.owner);
    hosted->source_->set_holders(asked.holders);
    FileBroker::Setup broker{.plan = asked.plan,
                             .owner = asked.owner.to_string(),
                             .catalog = asked.catalog,
                             .habit = asked.program};
    PPDSM_ASSIGN(hosted->broker_,
                 FileBroker::open(loop, files.cache(), *hosted->source_, std::move(broker)));
    return hosted;
}

HostedFiles::~HostedFiles() { *alive_ = false; }

// All that is exposed beyond the system's.

void HostedFiles::complete(std::function<void(const Status&)> done) {
    if (is_complete_) return done({});
    wait_for_completion_.push_back(std::move(done));
    if (wait_for_completion_.size() > 1) return;
    progress_said_us_ = monotonic_now_us();
    broker_->complete_exposures(
        [this, alive = alive_](const FileBroker::Progress& progress) {
            if (*alive) note_progress(progress);
        },
        [this, alive = alive_](const Result<FileBroker::Exposures>& exposures) {
            if (*alive) on_complete(exposures);
        });
}

void HostedFiles::note_progress(const FileBroker::Progress& progress) {
    const std::int64_t now_us = monotonic_now_us();
    if (now_us - progress_said_us_ < kProgressEveryUs) return;
    progress_said_us_ = now_us;
    log_->info("vc={} its exposed files come here: {} files, {} MiB so far", setup_.vc,
               progress.files, progress.bytes >> 20);
}

void HostedFiles::on_complete(const Result<FileBroker::Exposures>& exposures) {
    Status status;
    if (exposures) {
        is_complete_ = true;
        log_->info("vc={} its exposed files are here: {} files, {} MiB", setup_.vc,
                   exposures->total.files, exposures->total.bytes >> 20);
        const auto& problems = exposures->problems;
        for (std::size_t i = 0; i < std::min(problems.size(), kMostProblemsSaid); ++i) {
            log_->warn("vc={} {}", setup_.vc, problems[i]);
        }
    } else if (exposures.error().code() == Code::kUnavailable) {
        status = fail(exposures.error().within("its exposed files"));
    } else {
        // More than a cache takes. What it was shown is kept all the same.
        is_complete_ = true;
        log_->warn("vc={} what it has not read of its exposed files goes with their owner: {}",
                   setup_.vc, exposures.error().message());
    }
    for (const auto& done : std::exchange(wait_for_completion_, {})) done(status);
}

// The replicas.

void HostedFiles::secure(std::vector<PeerId> peers, std::function<void(Result<Secured>)> done) {
    auto round = std::make_shared<Round>();
    round->peers = std::move(peers);
    round->done = std::move(done);
    // Alone at home, home's own files are as lasting as any copy beside them.
    if (setup_.owner == mesh_.self().id && round->peers.empty()) return settle(round);
    complete([this, round](const Status& completed) {
        if (!completed) return round->done(fail(completed.error()));
        settle(round);
    });
}

void HostedFiles::settle(const std::shared_ptr<Round>& round) {
    round->secured.catalog_bytes = broker_->catalog().size_bytes();
    broker_->settle([this, alive = alive_, round](const Status& settled) {
        if (!*alive) return;
        if (!settled) return round->done(fail(settled.error()));
        std::erase(round->peers, mesh_.self().id);
        round->missing = round->peers.size();
        if (round->missing == 0) return round->done(std::move(round->secured));
        for (const PeerId& peer : std::vector(round->peers)) bring_up_to_date(peer, round);
    });
}

void HostedFiles::bring_up_to_date(const PeerId& peer, const std::shared_ptr<Round>& round) {
    const std::uint64_t have_bytes = held_bytes_[peer];
    if (have_bytes >= round->secured.catalog_bytes) {
        round->secured.peers.push_back(peer);
        if (--round->missing == 0) round->done(std::move(round->secured));
        return;
    }
    HoldRequest request{setup_.vc, have_bytes, {}, round->secured.peers};
    Result<Bytes> lines = broker_->catalog().bytes_from(have_bytes);
    if (!lines) return on_answer(peer, round, fail(lines.error()));
    lines->resize(std::min<std::size_t>(
        {lines->size(), kMostSliceBytes, round->secured.catalog_bytes - have_bytes}));
    while (!lines->empty() && lines->back() != '\n') lines->pop_back();
    request.catalog = *std::move(lines);
    files_.warrants().show(setup_.vc, peer);
    mesh_.request(peer, Priority::kBulk, MessageType::kHoldFiles, encode_hold_request(request),
                  [this, alive = alive_, peer, round](const Result<Frame>& frame) {
                      if (!*alive) return;
                      on_answer(peer, round,
                                frame ? decode_hold_reply(frame->payload) : fail(frame.error()));
                  });
}

void HostedFiles::on_answer(const PeerId& peer, const std::shared_ptr<Round>& round,
                            const HoldReply& holds) {
    constexpr std::uint32_t kMostRestarts = 2;
    std::uint64_t& have_bytes = held_bytes_[peer];
    const bool went_back = holds && *holds <= have_bytes;
    if (holds) have_bytes = std::min(*holds, broker_->catalog().size_bytes());
    if (holds && (!went_back || ++round->restarts[peer] <= kMostRestarts)) {
        return bring_up_to_date(peer, round);
    }
    const Error why = holds ? Error(Code::kUnavailable, "it keeps another catalog") : holds.error();
    round->secured.failures.add(peer, mesh_.describe(peer), why);
    if (--round->missing == 0) round->done(std::move(round->secured));
}

}  // namespace ppdsm
