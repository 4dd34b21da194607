// Where programs run: what this peer knows of all, and when it looks again.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/allocator.h"
#include "dsm/base/byte_text.h"
#include "dsm/base/wall_clock.h"
#include "runtime/peer/mesh/daemon.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

/// Until a program that was placed shows in its peer's load.
constexpr std::int64_t kArrivingUs = std::int64_t{15} * 1'000'000;

placement::Candidate describe(const PeerId& peer, const std::string& name,
                              const Capacity& capacity) {
    placement::Candidate candidate;
    candidate.peer = peer;
    candidate.name = name;
    candidate.is_drained = capacity.drained;
    candidate.is_yielding = capacity.yielding;
    candidate.speed = capacity.speed;
    candidate.cores = capacity.max_cpus > 0 ? std::min<double>(capacity.max_cpus, capacity.cores)
                                            : capacity.cores;
    candidate.load = capacity.load;
    candidate.hosted = capacity.hosted;
    candidate.memory_bytes = capacity.memory_bytes;
    candidate.room_bytes = capacity.max_memory_bytes != 0
                               ? std::min(capacity.max_memory_bytes, capacity.free_memory_bytes)
                               : capacity.free_memory_bytes;
    candidate.uid = capacity.uid;
    candidate.cpu = {capacity.host.machine, capacity.host.cpu_features};
    candidate.can_checkpoint = !capacity.host.criu_version.empty();
    return candidate;
}

}  // namespace

std::vector<placement::Candidate> Daemon::survey() const {
    const PeerId self = mesh_->self().id;
    std::vector<placement::Candidate> candidates = {
        describe(self, mesh_->describe(self), capacity_)};
    candidates.back().is_reachable = true;
    for (const Member* member : mesh_->members()) {
        if (!mesh_->is_alive(member->id)) continue;
        const Result<Capacity> capacity = decode_capacity(member->advert);
        if (!capacity) continue;  // It has not said yet what it can.
        candidates.push_back(describe(member->id, mesh_->describe(member->id), *capacity));
        candidates.back().is_reachable = mesh_->is_linked(member->id);
    }
    std::map<PeerId, std::uint32_t> arriving;
    for (const auto& [vc, deployment] : deployments_) {
        const bool is_new = monotonic_now_us() - deployment->placed_us() < kArrivingUs;
        if (is_new && deployment->worker()) ++arriving[*deployment->worker()];
    }
    for (placement::Candidate& each : candidates) each.arriving = arriving[each.peer];
    return candidates;
}

void Daemon::watch_owner() {
    if (options_.yield_to_cores <= 0) return;
    const bool yields = owner_watch_.look(cpu_use_.others_cores());
    if (yields == capacity_.yielding) return;
    log_->info(yields ? "programs leave: the machine is used" : "the machine is free again");
    capacity_.yielding = yields;
}

void Daemon::look_around() {
    watch_owner();
    advertise();
    if (hosted_.empty()) return_freed_memory();
    for (auto& [vc, deployment] : deployments_) deployment->look_around();
}

void Daemon::migrate(std::uint64_t client, const Json& request) {
    const auto reply = [this, client](const Status& status) {
        if (!status) answer(client, {{"error", error_to_json(status.error())}});
    };
    const Result<PeerId> target = mesh_->resolve(request.value("to", ""));
    if (!target) return reply(fail(target.error()));
    const std::string vc = request.value("vc", "");
    const auto found = deployments_.find(vc);
    if (found == deployments_.end()) {
        return reply(fail(Code::kNotFound, vc + " does not run on the mesh"));
    }
    found->second->migrate(*target, "asked for", [=, this](const Status& moved) {
        if (!moved) return reply(moved);
        answer(client, {{"peer", bytes_to_utf8(mesh_->describe(*target))}});
    });
}

}  // namespace ppdsm
