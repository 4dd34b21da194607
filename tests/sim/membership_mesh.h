// A mesh in the simulator whose processes run the membership's core as the daemon does, with a
// record of what each peer came to believe and when.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/membership.h"
#include "tests/sim/simulator.h"

namespace ppdsm::sim {

[[nodiscard]] PeerId peer_of(HostId host);
[[nodiscard]] HostId host_of(const PeerId& peer);

/// One thing that one peer came to believe.
struct Belief {
    TimeUs at_us = 0;
    HostId observer = 0;
    HostId subject = 0;
    std::uint64_t instance = 0;
    MemberState state = MemberState::kAlive;
    std::string why;
    bool is_true = true;  ///< False: held dead, and its process runs.
};

struct MeshOptions {
    std::size_t hosts = 3;
    MembershipSettings settings;
    NetworkRules network;
};

/// Every process calls host 0 until it knows it.
class MembershipMesh {
public:
    MembershipMesh(std::uint64_t seed, const MeshOptions& options);

    [[nodiscard]] Simulator& simulator() { return simulator_; }
    void start_all(TimeUs spread_us = 0);
    /// All processes that run agree on who lives, and are right.
    [[nodiscard]] bool agrees();
    /// Runs until agrees().
    bool settle(TimeUs within_us);
    [[nodiscard]] const Membership& core(HostId host);

    [[nodiscard]] const std::vector<Belief>& beliefs() const { return beliefs_; }
    void forget_beliefs() { beliefs_.clear(); }
    /// When the last of those that run learned that this instance is dead; none if one has not.
    [[nodiscard]] std::optional<TimeUs> known_dead_by_all_us(HostId subject,
                                                             std::uint64_t instance) const;
    /// Those who held a running process dead.
    [[nodiscard]] std::vector<Belief> false_deaths() const;
    /// Who knows what, for a failed assertion.
    [[nodiscard]] std::string describe();

private:
    class Process;
    void note(HostId observer, const membership::Changed& change);

    MeshOptions options_;
    Simulator simulator_;
    std::vector<Belief> beliefs_;
};

std::string describe(const std::vector<Belief>& beliefs);

}  // namespace ppdsm::sim
