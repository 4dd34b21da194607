#include "runtime/core/placement.h"

#include <algorithm>
#include <tuple>

namespace ppdsm::placement {

namespace {

constexpr std::size_t kNamedFeatures = 4;

bool covers(const Cpu& has, const Cpu& needs) {
    return has.machine == needs.machine &&
           std::includes(has.features.begin(), has.features.end(), needs.features.begin(),
                         needs.features.end());
}

/// What a candidate lacks, in words.
std::string missing(const Cpu& has, const Cpu& needs) {
    if (has.machine != needs.machine) {
        return "its CPU is " + (has.machine.empty() ? "unknown" : has.machine) +
               ", the program's checkpoint is of " + needs.machine;
    }
    std::vector<std::string> lacking;
    std::set_difference(needs.features.begin(), needs.features.end(), has.features.begin(),
                        has.features.end(), std::back_inserter(lacking));
    std::string text = "its CPU lacks";
    for (std::size_t i = 0; i < lacking.size() && i < kNamedFeatures; ++i) text += " " + lacking[i];
    return lacking.size() > kNamedFeatures ? text + " ..." : text;
}

std::string objection(const Request& request, const Candidate& candidate) {
    if (request.only && candidate.peer != *request.only) return "another peer is asked for";
    if (request.excluded.contains(candidate.peer)) return "did not take it just now";
    if (!candidate.is_reachable) return "no link to it";
    if (candidate.is_drained) return "drained by its owner";
    if (candidate.is_yielding && !request.only) return "its owner uses it";
    if (candidate.uid != 0 && candidate.uid != request.uid) {
        return "its daemon cannot run programs of user " + std::to_string(request.uid);
    }
    if (request.needs_checkpoints && !candidate.can_checkpoint) return "it has no CRIU that works";
    if (request.made_on != nullptr && !covers(candidate.cpu, *request.made_on)) {
        return missing(candidate.cpu, *request.made_on);
    }
    if (request.memory_bytes > candidate.room_bytes) return "it has not enough free memory";
    return "";
}

/// To which part of the others a program started there could move.
double mobility(const Candidate& from, const std::vector<Candidate>& candidates) {
    if (candidates.size() < 2 || !from.can_checkpoint) return 0;
    const auto targets =
        std::count_if(candidates.begin(), candidates.end(), [&](const Candidate& to) {
            return to.peer != from.peer && to.can_checkpoint && covers(to.cpu, from.cpu);
        });
    return static_cast<double>(targets) / static_cast<double>(candidates.size() - 1);
}

bool contains(const std::vector<PeerId>& peers, const PeerId& peer) {
    return std::find(peers.begin(), peers.end(), peer) != peers.end();
}

}  // namespace

double share(const Candidate& candidate, bool is_there) {
    // Load is an average of the last minute, so that programs that came just now are counted apart.
    const double others = std::max<double>(candidate.load + candidate.arriving, candidate.hosted) -
                          (is_there ? 1 : 0);
    return candidate.speed * std::min(1.0, candidate.cores / (std::max(others, 0.0) + 1));
}

Ranking rank(const Request& request, const std::vector<Candidate>& candidates) {
    Ranking ranking;
    std::vector<std::tuple<bool, double, PeerId>> scored;
    for (const Candidate& candidate : candidates) {
        const std::string why = objection(request, candidate);
        if (!why.empty()) {
            if (!request.only || candidate.peer == *request.only) {
                ranking.refusals.push_back({candidate.peer, candidate.name, why});
            }
            continue;
        }
        double score = share(candidate, false);
        if (request.made_on == nullptr && request.wants_checkpoints) {
            score *= 0.5 + 0.5 * mobility(candidate, candidates);
        }
        scored.emplace_back(contains(request.holders, candidate.peer), score, candidate.peer);
    }
    // Who holds the checkpoint goes on at once; the id makes the order total.
    std::sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) { return b < a; });
    for (const auto& [holds, score, peer] : scored) ranking.best_first.push_back(peer);
    return ranking;
}

std::string Ranking::explain() const {
    std::string text;
    for (const Refusal& refusal : refusals) {
        text += (text.empty() ? "" : "; ") + refusal.name + ": " + refusal.why;
    }
    return text.empty() ? "no peer is alive that could have it" : text;
}

std::vector<PeerId> choose_replicas(const ReplicaRequest& request,
                                    const std::vector<Candidate>& candidates) {
    const auto at = std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& each) {
        return each.peer == request.worker;
    });
    std::vector<const Candidate*> usable;
    for (const Candidate& each : candidates) {
        const bool is_needed = each.peer == request.deployer;
        const bool is_usable =
            each.is_reachable && !each.is_drained && !request.excluded.contains(each.peer);
        if (each.peer == request.worker || !(is_usable || is_needed)) continue;
        usable.push_back(&each);
    }
    const auto order = [&](const Candidate* each) {
        const bool could_go_on =
            at != candidates.end() && each->can_checkpoint && covers(each->cpu, at->cpu);
        // In steps, so that a little more memory does not send generations elsewhere.
        return std::tuple(each->peer == request.deployer, could_go_on,
                          contains(request.holders, each->peer), each->memory_bytes >> 30);
    };
    std::sort(usable.begin(), usable.end(), [&](const Candidate* a, const Candidate* b) {
        const auto left = order(a);
        const auto right = order(b);
        return left != right ? right < left : a->peer < b->peer;
    });
    std::vector<PeerId> chosen;
    for (const Candidate* each : usable) {
        if (chosen.size() < request.count) chosen.push_back(each->peer);
    }
    return chosen;
}

std::string why_leave(const Candidate& from) {
    if (from.is_drained) return "it is drained";
    if (from.is_yielding) return "its owner uses it";
    return "";
}

bool Hysteresis::look(const std::optional<PeerId>& best, double gain) {
    if (!best || gain < kLeastGain) {
        steady_ = 0;
        return false;
    }
    steady_ = favourite_ == best ? steady_ + 1 : 1;
    favourite_ = best;
    if (steady_ < kSteadyLooks) return false;
    steady_ = 0;
    return true;
}

bool OwnerWatch::look(double others_cores) {
    constexpr std::uint32_t kLooksToLeave = 2;
    constexpr std::uint32_t kLooksToReturn = 12;
    if (threshold_cores_ <= 0) return false;
    const bool is_used = others_cores >= (is_there_ ? threshold_cores_ / 2 : threshold_cores_);
    streak_ = is_used == is_there_ ? 0 : streak_ + 1;
    if (streak_ >= (is_there_ ? kLooksToReturn : kLooksToLeave)) {
        is_there_ = !is_there_;
        streak_ = 0;
    }
    return is_there_;
}

}  // namespace ppdsm::placement
