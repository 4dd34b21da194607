// What a mover does to the rings of a virtual thread that goes to another peer: freeze it, seal
// every ring of which it is an end, cut, commit; then it goes on at exactly one place, which the
// commit's record decides. Its rings stay sealed wherever that is, so a move that fails costs a way
// by the relay and nothing more; a new ring is offered later.
//
// Pure. A mover that dies leaves nothing but the record: its successor asks for that, and
// resumes (resume_after_death). Sealing again finds the seals that are there.
#pragma once

#include <cstdint>
#include <set>
#include <utility>
#include <variant>
#include <vector>

namespace ppdsm::rings {

enum class RingId : std::uint64_t {};
enum class Place : std::uint8_t { kSource, kTarget };

namespace move {

// Events.
struct Frozen {};
struct Sealed {
    RingId ring{};
};
/// Its image, with the rings in it, is at the target.
struct CutDone {};
/// What the commit log says.
struct Committed {};
struct Refused {};
/// Something before the commit went wrong, or the target died.
struct Failed {};
using Event = std::variant<Frozen, Sealed, CutDone, Committed, Refused, Failed>;

// Effects.
struct Freeze {};
struct SealRing {
    RingId ring{};
};
struct Cut {};
struct Commit {};
struct Resume {
    Place at = Place::kSource;
};
using Effect = std::variant<Freeze, SealRing, Cut, Commit, Resume>;

}  // namespace move

class RingMove {
public:
    using Effects = std::vector<move::Effect>;

    /// `rings`: all of which it is an end, those included that an end does not use yet. None is
    /// made while the move goes on.
    explicit RingMove(std::set<RingId> rings) : unsealed_(std::move(rings)) {}

    [[nodiscard]] Effects begin() { return {move::Freeze{}}; }
    Effects step(const move::Event& event);
    [[nodiscard]] bool is_over() const { return phase_ == Phase::kOver; }

    /// A successor's move of a thread that it finds frozen, by what the commit log says.
    [[nodiscard]] static move::Resume resume_after_death(bool is_committed) {
        return {is_committed ? Place::kTarget : Place::kSource};
    }

private:
    enum class Phase : std::uint8_t { kFreezing, kSealing, kCutting, kCommitting, kOver };

    void on(const move::Frozen&, Effects& effects);
    void on(const move::Sealed& event, Effects& effects);
    void on(const move::CutDone&, Effects& effects);
    void on(const move::Committed&, Effects& effects);
    void on(const move::Refused&, Effects& effects);
    void on(const move::Failed&, Effects& effects);
    void cut_when_all_sealed(Effects& effects);
    void resume(Place at, Effects& effects);

    Phase phase_ = Phase::kFreezing;
    std::set<RingId> unsealed_;
};

}  // namespace ppdsm::rings
