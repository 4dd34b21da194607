// Where a computation runs: choosing a worker, giving it the program, noticing its loss.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/base/wall_clock.h"
#include "dsm/wire/codec.h"
#include "messages_generated.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/mesh/deployment.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::uint64_t kRetryMs = 1'000;
constexpr std::uint64_t kGraceMs = 5'000;
/// Until a peer that had no room for a generation is asked to keep one again.
constexpr std::int64_t kUnableUs = std::int64_t{60} * 1'000'000;

}  // namespace

void Deployment::begin(std::function<void()> on_ended) {
    on_ended_ = std::move(on_ended);
    if (truth_.end) {
        phase_ = Phase::kEnding;
        return finish();
    }
    if (plan_.roots.empty()) return plan();
    if (!worker_) return place();
    phase_ = Phase::kRunning;
    if (*worker_ == services_.mesh.self().id) {
        return lose_worker("the daemon that ran it was stopped");
    }
    // Its worker says so itself when there is a link. First the mesh must find together again. It
    // may never have had the order.
    grace_timer_.start(kGraceMs);
}

/// Before the first start: what it will be shown of this machine.
void Deployment::plan() {
    job(
        [this]() -> Status {
            PPDSM_ASSIGN(const ViewPlan plan, plan_view(record_, services_.home));
            return replace_file(paths_.plan(), as_bytes(encode_plan(plan)), 0600);
        },
        [this](const Status& planned) {
            const Status shown = planned ? show_files() : planned;
            if (shown) return place();
            conclude({.exit_code = kFailedExitCode, .failure = shown.error().message()});
        });
}

void Deployment::place() {
    retry_timer_.stop();
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) return;
    if (kill_reason_) {
        return conclude({.exit_code = 128 + SIGKILL, .failure = *kill_reason_});
    }
    phase_ = Phase::kWaiting;
    if (truth_.unprotected && epoch_ > 0) {
        return conclude({.exit_code = kFailedExitCode,
                         .failure = "it ran without checkpoints and has shown output, so that "
                                    "there is nothing to go on from; start the program again"});
    }
    placement::Request request = placement_request();
    request.excluded = refused_;
    // Where it was asked to run, as long as that peer lives.
    const Result<PeerId> pinned = services_.mesh.resolve(record_.on);
    if (!record_.on.empty() && pinned && services_.mesh.is_alive(*pinned)) request.only = *pinned;
    const placement::Ranking ranking = placement::rank(request, services_.survey());
    if (!ranking.best_first.empty()) return deploy(ranking.best_first.front());
    if (!refused_.empty()) {
        // Those that refused are asked again after the others.
        refused_.clear();
    }
    if (std::string why = ranking.explain(); waiting_why_ != why) {
        waiting_why_ = std::move(why);
        say("waits for a peer: " + waiting_why_);
    }
    retry_timer_.start(kRetryMs);
}

placement::Request Deployment::placement_request() const {
    placement::Request request;
    request.uid = record_.uid;
    request.memory_bytes = record_.memory_bytes;
    request.wants_checkpoints = record_.checkpoint_every_ms >= 0;
    request.needs_checkpoints = record_.require_checkpoints;
    if (truth_.last() != nullptr) {
        request.needs_checkpoints = true;
        request.holders = holders_;
        if (made_on_) request.made_on = &*made_on_;
    }
    return request;
}

std::vector<PeerId> Deployment::choose_replicas(const PeerId& worker) const {
    if (record_.checkpoint_every_ms < 0) return {};
    placement::ReplicaRequest request{
        worker, services_.mesh.self().id, record_.replicas, holders_, {}};
    for (const auto& [peer, until_us] : unable_until_us_) {
        if (monotonic_now_us() < until_us) request.excluded.insert(peer);
    }
    return placement::choose_replicas(request, services_.survey());
}

/// Others are chosen in their place.
void Deployment::note_unable(const std::vector<PeerId>& peers) {
    for (const PeerId& peer : peers) unable_until_us_[peer] = monotonic_now_us() + kUnableUs;
    if (!peers.empty() && phase_ == Phase::kRunning) update_replicas();
}

/// In a job: a new epoch begins from the last generation, and with it the worker's name is written
/// down.
Status Deployment::begin_epoch(DeployOrder& order, std::uint64_t released_bytes,
                               const std::string& placement) {
    PPDSM_TRY(commits_.begin_epoch());
    order.epoch = commits_.state().epoch;
    if (const GenerationRecord* last = commits_.state().last(); last != nullptr) {
        order.generation = *last;
        order.output_bytes = last->output_bytes;
        order.input_bytes = last->input_bytes;
        order.input_signals = last->input_signals;
    }
    // What no generation covers and nobody has seen is the next incarnation's to write.
    PPDSM_TRY(output_.truncate(released_bytes));
    if (released_bytes > order.output_bytes) {
        PPDSM_ASSIGN(order.released,
                     output_.read_frames(order.output_bytes, released_bytes - order.output_bytes));
    }
    return replace_file(paths_.placement(), as_bytes(placement), 0600);
}

/// No other job may be waiting that could change what the order says.
void Deployment::deploy(const PeerId& worker) {
    phase_ = Phase::kDeploying;
    worker_ = worker;
    placed_us_ = monotonic_now_us();
    ++epoch_;
    if (is_thread() && epoch_ > 1) {
        const GenerationRecord* last = truth_.last();
        services_.threads.on_rolled_back(record_, last == nullptr ? 0 : last->calls);
    }
    replicas_ = choose_replicas(worker);
    auto order = std::make_shared<DeployOrder>();
    order->record = record_;
    order->plan = plan_;
    order->previews = record_.output == OutputMode::kLive;
    order->replicas = replicas_;
    if (truth_.last() != nullptr) order->sources = holders_;
    job([this, order, released = released_bytes_,
         placement = encode_placement()] { return begin_epoch(*order, released, placement); },
        [this, order](const Status& made) {
            if (phase_ != Phase::kDeploying) return;
            if (!made) {
                return conclude({.exit_code = kFailedExitCode, .failure = made.error().message()});
            }
            fault_point("deploy");
            send_order(*order);
        });
}

void Deployment::send_order(const DeployOrder& order) {
    sent_input_bytes_ = taken_input_bytes_ = order.input_bytes;
    sent_signals_ = order.input_signals;
    sent_input_end_ = false;
    services_.log->info("vc={} epoch={} goes to {}", paths_.id(), order.epoch,
                        services_.mesh.describe(*worker_));
    services_.warrants.grant(paths_.id(), *worker_);
    services_.mesh.request(
        *worker_, Priority::kBulk, MessageType::kDeploy, encode_order(order),
        [this, alive = alive_, epoch = order.epoch, worker = *worker_](Result<Frame> frame) {
            if (!*alive) return;
            Status answer;
            if (!frame) {
                answer = fail(frame.error());
            } else {
                auto said = decode_message<wire::Answer>(frame->payload);
                if (!said) {
                    answer = fail(said.error());
                } else if (said->error_code >= 0) {
                    answer = fail(static_cast<Code>(said->error_code), said->error);
                }
            }
            on_deployed(epoch, worker, answer);
        });
}

void Deployment::on_deployed(std::uint64_t epoch, const PeerId& worker, const Status& answer) {
    if (epoch != epoch_ || phase_ != Phase::kDeploying) return;
    if (!answer) {
        say(services_.mesh.describe(worker) + " did not take it: " + answer.error().message());
        refused_.insert(worker);
        if (is_moved_to(worker)) end_move(answer);
        // Asking it again would change nothing, and nobody else is wanted.
        const bool is_final = !record_.on.empty() && truth_.last() == nullptr &&
                              answer.error().code() == Code::kUnsupported;
        if (is_final) {
            return conclude({.exit_code = kFailedExitCode, .failure = answer.error().message()});
        }
        if (++failures_ > kMaxFailures && answer.error().code() != Code::kUnavailable) {
            return conclude({.exit_code = kFailedExitCode, .failure = answer.error().message()});
        }
        return place();
    }
    phase_ = Phase::kRunning;
    refused_.clear();
    waiting_why_.clear();
    if (kill_reason_) command({{"do", "kill"}, {"reason", bytes_to_utf8(*kill_reason_)}});
    send_input();
}

void Deployment::lose_worker(const std::string& why) {
    if (phase_ != Phase::kRunning && phase_ != Phase::kDeploying) return;
    program_pid_ = 0;
    if (move_) end_move(fail(Code::kUnavailable, why));
    for (auto& [token, done] : std::exchange(checkpoints_, {})) {
        done(fail(Code::kUnavailable, why));
    }
    notify([&](RunObserver& observer) { observer.on_died(why); });
    services_.log->warn("vc={} {}", paths_.id(), why);
    const bool known_to_live = worker_ && services_.mesh.is_alive(*worker_);
    if (++failures_ > kMaxFailures && known_to_live) {
        return conclude({.exit_code = kFailedExitCode,
                         .failure = fmt::format("it died {} times without a new generation: {}",
                                                failures_, why)});
    }
    if (!record_.recover) {
        return conclude({.exit_code = kFailedExitCode, .failure = why + "; --recover never"});
    }
    std::erase(holders_, *worker_);
    if (known_to_live) holders_.push_back(*worker_);
    // One that was only frozen reads it when it goes on, if its link holds.
    fence(services_.mesh, *worker_, incarnation(), "it was given up: " + why);
    worker_.reset();
    // A commit under way ends first: it decides from where on.
    job([]() -> Status { return {}; }, [this](const Status&) { place(); });
    phase_ = Phase::kWaiting;
}

void Deployment::on_members_changed() {
    if (phase_ == Phase::kWaiting && retry_timer_.is_active()) return place();
    if (phase_ != Phase::kRunning || !worker_) return;
    if (!services_.mesh.is_alive(*worker_)) {
        if (grace_timer_.is_active()) return;
        return lose_worker("the peer " + services_.mesh.describe(*worker_) + " is gone");
    }
    const auto is_target_gone = [&] { return !services_.mesh.is_alive(move_->target); };
    if (move_ && is_target_gone()) end_move(fail(Code::kUnavailable, "that peer is gone"));
    update_replicas();
    leave_if_unwanted();
}

void Deployment::update_replicas() {
    std::vector<PeerId> wanted = choose_replicas(*worker_);
    const bool is_moving = move_ && !move_->is_handed_over;
    if (is_moving && !contains(wanted, move_->target)) {
        wanted.push_back(move_->target);
    }
    if (wanted == replicas_) return;
    replicas_ = std::move(wanted);
    tell_replicas();
}

/// A copy that did not come about, as when a link was replaced under it, is made once more.
void Deployment::mend_copies() {
    if (phase_ != Phase::kRunning || truth_.last() == nullptr) return;
    std::vector<PeerId> lacking;
    for (const PeerId& peer : replicas_) {
        if (!contains(holders_, peer) && services_.mesh.is_alive(peer)) lacking.push_back(peer);
    }
    if (lacking.empty()) return;
    command({{"do", "replicas"},
             {"peers", peers_to_json(replicas_)},
             {"lacking", peers_to_json(lacking)}});
}

void Deployment::tell_replicas() {
    command({{"do", "replicas"}, {"peers", peers_to_json(replicas_)}});
}

}  // namespace ppdsm
