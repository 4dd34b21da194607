// Who runs what: a pure function of what the peers say of themselves.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dsm/base/peer_id.h"

namespace ppdsm::placement {

/// What processes made on one machine need of another; a checkpoint is never tried elsewhere.
struct Cpu {
    std::string machine;                ///< As uname names it.
    std::vector<std::string> features;  ///< Sorted.
};

/// A peer as the placing peer sees it.
struct Candidate {
    PeerId peer;
    std::string name;
    bool is_reachable = false;
    bool is_drained = false;   ///< Its owner wants no programs there.
    bool is_yielding = false;  ///< Its owner uses it now.
    double speed = 0;          ///< Of one core, in any unit that all share.
    double cores = 0;          ///< That programs may use.
    double load = 0;           ///< Processes that want to run.
    std::uint32_t hosted = 0;  ///< Programs of the mesh there.
    /// Of those, what was sent there so lately that its load does not show it.
    std::uint32_t arriving = 0;
    std::uint64_t memory_bytes = 0;
    std::uint64_t room_bytes = 0;  ///< Memory that a program may have.
    std::uint32_t uid = 0;         ///< Whose programs it can run; 0: everybody's.
    Cpu cpu;
    bool can_checkpoint = false;
};

struct Request {
    std::uint32_t uid = 0;
    std::uint64_t memory_bytes = 0;
    bool wants_checkpoints = true;
    bool needs_checkpoints = false;  ///< It has one to go on from, or was asked to fail without.
    const Cpu* made_on = nullptr;    ///< Of the checkpoint to go on from; null: a fresh start.
    std::optional<PeerId> only;
    std::vector<PeerId> holders;  ///< Have that checkpoint.
    std::set<PeerId> excluded;    ///< Refused it just now.
};

struct Refusal {
    PeerId peer;
    std::string name;
    std::string why;
};

struct Ranking {
    std::vector<PeerId> best_first;
    std::vector<Refusal> refusals;

    /// Every refusal with its peer's name.
    [[nodiscard]] std::string explain() const;
};

Ranking rank(const Request& request, const std::vector<Candidate>& candidates);

struct ReplicaRequest {
    PeerId worker;
    PeerId deployer;
    std::size_t count = 0;
    std::vector<PeerId> holders;  ///< Have the last generation.
    std::set<PeerId> excluded;    ///< Could not keep one just now.
};

/// Up to `count` peers apart from the worker that keep its generations: the deployer first, since
/// it decides what is true, then those that could go on with the program, then those that have the
/// last one, then most memory.
std::vector<PeerId> choose_replicas(const ReplicaRequest& request,
                                    const std::vector<Candidate>& candidates);

/// Speed that a program gets there; `is_there`: it is one of those hosted already.
double share(const Candidate& candidate, bool is_there);

/// Why the program should leave `from`; empty: it should not. Where to is rank()'s to say.
std::string why_leave(const Candidate& from);

/// How often in a row, and how much faster the other must be, before a program moves for speed
/// alone: it must gain more than the move and a wrong guess cost.
inline constexpr double kLeastGain = 1.5;
inline constexpr std::uint32_t kSteadyLooks = 6;

/// Remembers, for one program, since how many looks the same peer has been much better.
class Hysteresis {
public:
    /// `best` offers `gain` times what the program has. True: move there now.
    bool look(const std::optional<PeerId>& best, double gain);
    void reset() { steady_ = 0; }

private:
    std::optional<PeerId> favourite_;
    std::uint32_t steady_ = 0;
};

/// Whether a machine's owner is there, told by what others than the mesh's programs use of it:
/// quick to give way, slow to come back.
class OwnerWatch {
public:
    /// `threshold_cores` 0: nobody has to give way.
    explicit OwnerWatch(double threshold_cores) : threshold_cores_(threshold_cores) {}
    /// One look every few seconds. True: programs should leave.
    bool look(double others_cores);

private:
    double threshold_cores_;
    bool is_there_ = false;
    std::uint32_t streak_ = 0;  ///< Looks in a row that say otherwise.
};

}  // namespace ppdsm::placement
