// Runs a scenario for many seeds. One that fails prints its seed and the command that replays it.
//
//   PPDSM_SIM_SEED=N   only this seed
//   PPDSM_SIM_FIRST=N, PPDSM_SIM_SECONDS=N   begin there instead of at 1, and go on for so long:
//                      to search further than CI does
#pragma once

#include <cstdint>
#include <functional>

namespace ppdsm::sim {

using Scenario = std::function<void(std::uint64_t seed)>;

/// `count` seeds; stops at the first that fails.
void for_seeds(std::uint64_t count, const Scenario& scenario);
/// As many as fit into so many seconds of real time, one at least. Returns how many.
std::uint64_t for_seeds_within(double seconds, const Scenario& scenario);

}  // namespace ppdsm::sim
