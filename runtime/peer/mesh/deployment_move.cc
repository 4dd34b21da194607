// Moving a computation that runs to another peer. Every step is a generation or an epoch like any
// other, so that a death at any moment leaves what an ordinary death leaves: before the new epoch
// the program is at the source, after it at the target or wherever it is placed then. Nothing of
// the move itself is kept: a deployer that is started again has a program at one of the two.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/wall_clock.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/mesh/deployment.h"

namespace ppdsm {

namespace {

/// Generations without the target among their holders, before the move is given up.
constexpr std::uint32_t kMaxRounds = 4;
/// Between moves of the program's own accord.
constexpr std::int64_t kRestUs = std::int64_t{30} * 1'000'000;

}  // namespace

/// Who could have it but its worker.
placement::Ranking Deployment::rank_others(std::optional<PeerId> only) const {
    const std::vector<placement::Candidate> candidates = services_.survey();
    placement::Request request = placement_request();
    request.needs_checkpoints = true;
    request.only = only;
    request.excluded.insert(*worker_);
    // Copies are made anyway: the better peer counts, not who has one.
    request.holders.clear();
    for (const placement::Candidate& each : candidates) {
        if (each.peer == *worker_) request.made_on = &each.cpu;
    }
    return placement::rank(request, candidates);
}

Status Deployment::check_move(const PeerId& target) const {
    if (phase_ != Phase::kRunning || !worker_) {
        return fail(Code::kUnavailable, paths_.id() + " does not run now");
    }
    if (move_) {
        return fail(Code::kUnavailable, paths_.id() + " is on its way to " +
                                            services_.mesh.describe(move_->target) + " already");
    }
    if (target == *worker_) {
        return fail(Code::kInvalid,
                    paths_.id() + " runs at " + services_.mesh.describe(target) + " already");
    }
    if (truth_.unprotected || record_.checkpoint_every_ms < 0) {
        return fail(Code::kUnsupported,
                    paths_.id() + " runs without checkpoints, so that it cannot move");
    }
    const placement::Ranking ranking = rank_others(target);
    if (ranking.best_first.empty()) {
        return fail(Code::kUnsupported, paths_.id() + " cannot move: " + ranking.explain());
    }
    return {};
}

void Deployment::migrate(const PeerId& target, const std::string& why, MoveDone done) {
    if (const Status possible = check_move(target); !possible) return done(possible);
    say(fmt::format("moves to {}: {}", services_.mesh.describe(target), why));
    move_.emplace(Move{.target = target, .done = std::move(done)});
    update_replicas();
    go_on_moving();
}

/// What the worker must be asked next; once more when a link to it is back.
void Deployment::go_on_moving() {
    if (!move_ || move_->is_handed_over) return;
    move_->has_copy = contains(holders_, move_->target);
    // The last generation is on its way to a target that is new among the replicas.
    const bool is_copying = truth_.last() != nullptr && !move_->has_copy;
    if (!is_copying || move_->rounds > 0) ask_checkpoint();
}

void Deployment::ask_checkpoint() { command({{"do", "checkpoint"}, {"token", next_token_++}}); }

/// A generation has come true (`is_new`), or copies of the last one have been made.
void Deployment::advance_move(bool is_new, const CopyFailures& failures) {
    if (move_->is_handed_over) return;
    if (contains(holders_, move_->target)) {
        // The first was all of the program; what has changed since then is little.
        if (move_->has_copy && is_new) return hand_over();
        if (std::exchange(move_->has_copy, true)) return;
    } else if (++move_->rounds > kMaxRounds) {
        return end_move(fail(Code::kUnavailable,
                             "that peer got no copy" +
                                 (failures.text.empty() ? failures.text : ": " + failures.text)));
    }
    ask_checkpoint();
}

void Deployment::hand_over() {
    fault_point("hand-over");
    move_->is_handed_over = true;
    program_pid_ = 0;
    const PeerId target = move_->target;
    fence(services_.mesh, *worker_, incarnation(),
          "it goes on at " + services_.mesh.describe(target));
    deploy(target);
}

bool Deployment::is_moved_to(const PeerId& worker) const {
    return move_ && move_->is_handed_over && move_->target == worker;
}

void Deployment::end_move(const Status& status) {
    const Move move = *std::exchange(move_, std::nullopt);
    next_move_us_ = monotonic_now_us() + kRestUs;
    hysteresis_.reset();
    if (!status) {
        say(fmt::format("did not move to {}: {}", services_.mesh.describe(move.target),
                        status.error().message()));
        if (phase_ == Phase::kRunning) update_replicas();
    }
    move.done(status);
}

// Of its own accord.

/// From a peer whose owner wants it for himself.
void Deployment::leave_if_unwanted() {
    if (phase_ != Phase::kRunning || move_ || monotonic_now_us() < next_move_us_) return;
    for (const placement::Candidate& each : services_.survey()) {
        if (each.peer != *worker_) continue;
        const std::string why = placement::why_leave(each);
        if (why.empty()) return;
        const placement::Ranking others = rank_others({});
        if (others.best_first.empty() || !check_move(others.best_first.front())) return;
        return migrate(others.best_first.front(), each.name + ": " + why, [](const Status&) {});
    }
}

void Deployment::look_around() {
    mend_copies();
    leave_if_unwanted();
    const bool may_move = phase_ == Phase::kRunning && !move_ && record_.on.empty();
    if (!may_move || monotonic_now_us() < next_move_us_) return;
    const placement::Ranking others = rank_others({});
    if (others.best_first.empty()) return hysteresis_.reset();
    const PeerId best = others.best_first.front();
    double here = 0;
    double there = 0;
    for (const placement::Candidate& each : services_.survey()) {
        if (each.peer == *worker_) here = placement::share(each, true);
        if (each.peer == best) there = placement::share(each, false);
    }
    if (here <= 0 || !hysteresis_.look(best, there / here) || !check_move(best)) return;
    migrate(best, fmt::format("{:.1f} times as fast", there / here), [](const Status&) {});
}

}  // namespace ppdsm
