#include "dsm/core/rings/ring_move.h"

namespace ppdsm::rings {

RingMove::Effects RingMove::step(const move::Event& event) {
    Effects effects;
    std::visit([&](const auto& one) { on(one, effects); }, event);
    return effects;
}

void RingMove::on(const move::Frozen&, Effects& effects) {
    if (phase_ != Phase::kFreezing) return;
    phase_ = Phase::kSealing;
    for (const RingId ring : unsealed_) effects.emplace_back(move::SealRing{ring});
    cut_when_all_sealed(effects);
}

void RingMove::on(const move::Sealed& event, Effects& effects) {
    if (phase_ != Phase::kSealing) return;
    unsealed_.erase(event.ring);
    cut_when_all_sealed(effects);
}

void RingMove::cut_when_all_sealed(Effects& effects) {
    if (!unsealed_.empty()) return;
    // Not before: an image with an open ring in it would go on by a ring that nobody else sees.
    phase_ = Phase::kCutting;
    effects.emplace_back(move::Cut{});
}

void RingMove::on(const move::CutDone&, Effects& effects) {
    if (phase_ != Phase::kCutting) return;
    phase_ = Phase::kCommitting;
    effects.emplace_back(move::Commit{});
}

void RingMove::on(const move::Committed&, Effects& effects) {
    if (phase_ == Phase::kCommitting) resume(Place::kTarget, effects);
}

void RingMove::on(const move::Refused&, Effects& effects) {
    if (phase_ == Phase::kCommitting) resume(Place::kSource, effects);
}

void RingMove::on(const move::Failed&, Effects& effects) {
    // Once the commit is under way only the log knows.
    if (phase_ != Phase::kCommitting && phase_ != Phase::kOver) resume(Place::kSource, effects);
}

void RingMove::resume(Place at, Effects& effects) {
    phase_ = Phase::kOver;
    effects.emplace_back(move::Resume{at});
}

}  // namespace ppdsm::rings
