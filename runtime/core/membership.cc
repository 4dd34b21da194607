#include "runtime/core/membership.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/membership_order.h"

namespace ppdsm {

using namespace membership;

namespace {

constexpr std::size_t kMaxFavours = 256;
constexpr std::int64_t kForgetUs = std::int64_t{24} * 3600 * 1'000'000;

}  // namespace

const char* member_state_name(MemberState state) {
    switch (state) {
        case MemberState::kAlive: return "alive";
        case MemberState::kSuspect: return "suspect";
        case MemberState::kDead: return "dead";
        case MemberState::kLeft: return "left";
    }
    return "?";
}

Membership::Membership(Member self, MembershipSettings settings, std::uint64_t seed)
    : self_(std::move(self)), settings_(settings), random_(seed) {}

std::vector<const Member*> Membership::members() const {
    std::vector<const Member*> all;
    all.reserve(entries_.size());
    for (const auto& [id, entry] : entries_) all.push_back(&entry.member);
    return all;
}

const Member* Membership::find(const PeerId& id) const {
    const auto found = entries_.find(id);
    return found == entries_.end() ? nullptr : &found->second.member;
}

std::int64_t Membership::stretched(std::int64_t time_us) const {
    return time_us * (1 + static_cast<std::int64_t>(health_));
}

void Membership::blame_self(int steps) {
    const int health = static_cast<int>(health_) + steps;
    health_ = static_cast<unsigned>(std::clamp(health, 0, static_cast<int>(settings_.max_health)));
}

void Membership::step(std::int64_t now_us, const Event& event, Effects& effects) {
    std::visit([&](const auto& each) { on(now_us, each, effects); }, event);
    plan_tick(now_us);
}

void Membership::plan_tick(std::int64_t now_us) {
    std::int64_t next = std::min({next_probe_us_, next_sync_us_, next_revive_us_});
    if (probe_)
        next = std::min(next, probe_->asked_others ? probe_->ends_us : probe_->indirect_at_us);
    for (const auto& [sequence, favour] : favours_) {
        if (!favour.nacked) next = std::min(next, favour.nack_at_us);
    }
    for (const PeerId& id : suspects_) {
        const Entry& entry = entries_.at(id);
        next = std::min(next, entry.suspect_since_us + suspicion_us(entry));
    }
    next_tick_us_ = std::max(next, now_us + 1'000);
}

void Membership::on(std::int64_t now_us, const Tick&, Effects& effects) {
    if (left_) return;
    if (next_tick_us_ != 0) excuse_stall(now_us - next_tick_us_);
    watch_favours(now_us, effects);
    watch_probe(now_us, effects);
    watch_suspects(now_us, effects);
    if (now_us >= next_probe_us_) start_probe(now_us, effects);
    if (now_us >= next_revive_us_) revive(now_us, effects);
    if (now_us < next_sync_us_) return;
    next_sync_us_ = now_us + settings_.sync_period_us;
    std::vector<PeerId> linked;
    for (const auto& [id, entry] : entries_) {
        if (entry.linked && is_up(entry.member.state)) linked.push_back(id);
    }
    if (linked.empty()) return;
    effects.emplace_back(Send{linked[random_.next() % linked.size()],
                              {GossipMessage::Kind::kDigest, digest(), {}, {}}});
}

/// A tick that comes late says that we did not run: answers may lie unread, and others seem slow
/// without being it. Such time does not count against them.
void Membership::excuse_stall(std::int64_t late_us) {
    if (late_us < settings_.stall_us) return;
    if (late_us > settings_.period_us) blame_self(+1);
    // And some more, to read what has come meanwhile.
    const std::int64_t excused_us = late_us + settings_.probe_timeout_us;
    if (probe_) {
        probe_->indirect_at_us += excused_us;
        probe_->ends_us += excused_us;
    }
    for (const PeerId& id : suspects_) entries_.at(id).suspect_since_us += excused_us;
}

// Probing.

void Membership::start_probe(std::int64_t now_us, Effects& effects) {
    next_probe_us_ = now_us + stretched(settings_.period_us);
    if (probe_) return;  // A stretched one is still under way.
    if (probe_order_.empty()) {
        for (const auto& [id, entry] : entries_) {
            if (is_up(entry.member.state)) probe_order_.push_back(id);
        }
        for (std::size_t i = probe_order_.size(); i > 1; --i) {
            std::swap(probe_order_[i - 1], probe_order_[random_.next() % i]);
        }
    }
    while (!probe_order_.empty()) {
        const PeerId target = probe_order_.front();
        probe_order_.pop_front();
        const auto found = entries_.find(target);
        if (found == entries_.end() || !is_up(found->second.member.state)) continue;
        probe_ = Probe{target,
                       next_sequence_++,
                       now_us + stretched(settings_.probe_timeout_us),
                       now_us + stretched(settings_.probe_timeout_us) +
                           stretched(settings_.indirect_timeout_us),
                       false,
                       0};
        if (!found->second.linked) effects.emplace_back(Connect{target});
        return send(target, {GossipMessage::Kind::kPing, probe_->sequence, target, {}}, effects);
    }
}

void Membership::watch_probe(std::int64_t now_us, Effects& effects) {
    if (!probe_) return;
    if (!probe_->asked_others && now_us >= probe_->indirect_at_us) {
        probe_->asked_others = true;
        std::vector<PeerId> helpers;
        for (const auto& [id, entry] : entries_) {
            if (id != probe_->target && entry.linked && entry.member.state == MemberState::kAlive) {
                helpers.push_back(id);
            }
        }
        for (unsigned i = 0; i < settings_.indirect_probes && !helpers.empty(); ++i) {
            const std::size_t chosen = random_.next() % helpers.size();
            send(helpers[chosen],
                 {GossipMessage::Kind::kPingRequest, probe_->sequence, probe_->target, {}},
                 effects);
            helpers.erase(helpers.begin() + static_cast<std::ptrdiff_t>(chosen));
            ++probe_->nacks_missing;
        }
    }
    if (now_us >= probe_->ends_us) end_probe(now_us, effects);
}

/// Unanswered.
void Membership::end_probe(std::int64_t now_us, Effects& effects) {
    const Probe probe = *std::exchange(probe_, {});
    // Helpers that did not even say no: it is perhaps we who do not hear.
    blame_self(probe.nacks_missing > 0 ? static_cast<int>(probe.nacks_missing) : 1);
    const auto found = entries_.find(probe.target);
    if (found != entries_.end()) accuse(now_us, found->second, self_.id, effects);
}

void Membership::watch_favours(std::int64_t now_us, Effects& effects) {
    for (auto each = favours_.begin(); each != favours_.end();) {
        Favour& favour = each->second;
        if (!favour.nacked && now_us >= favour.nack_at_us) {
            favour.nacked = true;
            send(favour.asker, {GossipMessage::Kind::kNack, favour.their_sequence, {}, {}},
                 effects);
        }
        const bool over = now_us >= favour.nack_at_us + 4 * settings_.indirect_timeout_us;
        each = over ? favours_.erase(each) : std::next(each);
    }
}

// Suspicion.

/// From the longest to the shortest, the more independent accusers there are.
std::int64_t Membership::suspicion_us(const Entry& entry) const {
    const double wanted = std::min<double>(settings_.confirmations,
                                           up_count_ > 1 ? static_cast<double>(up_count_ - 1) : 0);
    const double have = entry.accusers.empty() ? 0 : static_cast<double>(entry.accusers.size() - 1);
    const double part = wanted <= 0 ? 1 : std::min(1.0, std::log(have + 1) / std::log(wanted + 1));
    const auto span = static_cast<double>(settings_.suspicion_max_us - settings_.suspicion_min_us);
    return settings_.suspicion_max_us - static_cast<std::int64_t>(span * part);
}

void Membership::accuse(std::int64_t now_us, Entry& entry, const PeerId& accuser,
                        Effects& effects) {
    if (!is_up(entry.member.state)) return;
    if (entry.member.state == MemberState::kAlive) {
        Member suspect = entry.member;
        suspect.state = MemberState::kSuspect;
        entry.accusers.clear();
        entry.suspect_since_us = now_us;
        change(now_us, entry, suspect, "does not answer", effects);
    }
    // An accuser more is news, as long as more are wanted.
    if (entry.accusers.insert(accuser).second &&
        entry.accusers.size() <= settings_.confirmations + 1) {
        make_news(entry);
    }
}

/// The death of one to whom we have a link ourselves, told by others, perhaps from beyond a
/// partition that has just healed: it hears of it and has a moment to refute it.
void Membership::doubt(std::int64_t now_us, Entry& entry, const PeerId& from, const Member& said,
                       Effects& effects) {
    accuse(now_us, entry, from, effects);
    entry.suspect_since_us =
        std::min(entry.suspect_since_us, now_us - suspicion_us(entry) + settings_.hearsay_us);
    effects.emplace_back(Send{said.id, {GossipMessage::Kind::kNews, 0, {}, {said}}});
}

void Membership::watch_suspects(std::int64_t now_us, Effects& effects) {
    for (const PeerId& id : std::set(suspects_)) {
        Entry& entry = entries_.at(id);
        if (now_us >= entry.suspect_since_us + suspicion_us(entry)) {
            bury(now_us, entry, "did not answer in time", effects);
        }
    }
}

void Membership::bury(std::int64_t now_us, Entry& entry, const std::string& why, Effects& effects) {
    Member dead = entry.member;
    dead.state = MemberState::kDead;
    change(now_us, entry, dead, why, effects);
    tell_everyone(&entry, effects);
}

void Membership::change(std::int64_t now_us, Entry& entry, Member now, const std::string& why,
                        Effects& effects) {
    const MemberState before = entry.member.state;
    if (!is_up(now.state)) entry.died_us = now_us;
    if (now.state != MemberState::kSuspect) entry.accusers.clear();
    entry.member = std::move(now);
    up_count_ += is_up(entry.member.state) ? 1 : 0;
    up_count_ -= is_up(before) ? 1 : 0;
    if (entry.member.state == MemberState::kSuspect) {
        suspects_.insert(entry.member.id);
    } else {
        suspects_.erase(entry.member.id);
    }
    make_news(entry);
    effects.emplace_back(Changed{entry.member, before, why});
}

void Membership::make_news(Entry& entry) {
    news_.erase({entry.told, entry.member.id});
    entry.told = 0;
    news_.emplace(0, entry.member.id);
}

/// Members that were cut off are called now and then, so that a healed mesh finds together.
void Membership::revive(std::int64_t now_us, Effects& effects) {
    next_revive_us_ = now_us + settings_.revive_period_us;
    std::vector<PeerId> dead;
    for (auto each = entries_.begin(); each != entries_.end();) {
        const Entry& entry = each->second;
        const bool gone = !is_up(entry.member.state);
        if (gone && now_us - entry.died_us > kForgetUs) {
            news_.erase({entry.told, each->first});
            each = entries_.erase(each);
            continue;
        }
        if (entry.member.state == MemberState::kDead) dead.push_back(each->first);
        if (!gone && !entry.linked) effects.emplace_back(Connect{each->first});
        ++each;
    }
    if (dead.empty()) return;
    const PeerId chosen = dead[random_.next() % dead.size()];
    if (!entries_.at(chosen).linked) {
        effects.emplace_back(Connect{chosen});
    } else {
        // A silence that was shorter than its link's patience: it hears that it is held dead.
        send(chosen, {GossipMessage::Kind::kPing, next_sequence_++, chosen, {}}, effects);
    }
}

// Messages.

void Membership::on(std::int64_t now_us, const Received& event, Effects& effects) {
    if (left_) return;
    const GossipMessage& message = event.message;
    const auto sender = entries_.find(event.from);
    if (sender != entries_.end() && sender->second.member.state == MemberState::kDead) {
        // A word of one held dead: it is told so, and refutes it.
        GossipMessage told{GossipMessage::Kind::kNews, 0, {}, {sender->second.member}};
        effects.emplace_back(Send{event.from, std::move(told)});
    }
    for (const Member& said : message.members) learn(now_us, event.from, said, effects);
    using Kind = GossipMessage::Kind;
    switch (message.kind) {
        case Kind::kPing: return send(event.from, {Kind::kAck, message.sequence, {}, {}}, effects);
        case Kind::kAck: {
            if (probe_ && probe_->sequence == message.sequence) {
                probe_.reset();
                blame_self(-1);
            }
            auto favour = favours_.extract(message.sequence);
            if (!favour.empty()) {
                send(favour.mapped().asker, {Kind::kAck, favour.mapped().their_sequence, {}, {}},
                     effects);
            }
            return;
        }
        case Kind::kNack:
            if (probe_ && probe_->sequence == message.sequence && probe_->nacks_missing > 0) {
                --probe_->nacks_missing;
            }
            return;
        case Kind::kPingRequest: {
            if (favours_.size() >= kMaxFavours) return;
            const std::uint64_t sequence = next_sequence_++;
            favours_[sequence] = {event.from, message.sequence, now_us + settings_.probe_timeout_us,
                                  false};
            return send(message.target, {Kind::kPing, sequence, message.target, {}}, effects);
        }
        case Kind::kDigest:
            if (message.sequence != digest()) send_versions(event.from, effects);
            return;
        case Kind::kVersions: return on_versions(event.from, message, effects);
        case Kind::kWant: return on_want(event.from, message, effects);
        case Kind::kNews: return;
    }
}

void Membership::learn_of_self(const Member& said, Effects& effects) {
    if (said.instance > self_.instance && !is_up(said.state)) {
        // Of one with our key that is no more: a copy of our home, or we are a copy of an earlier
        // one. Only a greater instance is listened to.
        self_.instance = said.instance + 1;
        return tell_everyone(nullptr, effects);
    }
    if (said.instance != self_.instance || said.state == MemberState::kAlive) return;
    if (said.incarnation < self_.incarnation) return;
    // We are well: say so louder than what is said of us. That it was said is our fault, too.
    self_.incarnation = said.incarnation + 1;
    blame_self(+1);
    tell_everyone(nullptr, effects);
}

void Membership::learn(std::int64_t now_us, const PeerId& from, const Member& said,
                       Effects& effects) {
    if (said.id == self_.id) return learn_of_self(said, effects);
    if (said.advert.size() > kMaxAdvertBytes) return;
    const auto found = entries_.find(said.id);
    if (found == entries_.end()) {
        if (entries_.size() >= kMaxMembers || !is_up(said.state)) return;
        Entry& entry = entries_[said.id];
        entry.member = said;
        entry.member.state = MemberState::kAlive;  // Our own suspicion begins with our own probe.
        ++up_count_;
        make_news(entry);
        effects.emplace_back(Changed{entry.member, std::nullopt, "joined"});
        effects.emplace_back(Connect{said.id});
        return;
    }
    Entry& entry = found->second;
    if (said.instance == entry.member.instance &&
        said.advert_version > entry.member.advert_version) {
        entry.member.advert_version = said.advert_version;
        entry.member.advert = said.advert;
        make_news(entry);
        effects.emplace_back(Changed{entry.member, entry.member.state, "advert"});
    }
    const bool same =
        said.instance == entry.member.instance && said.incarnation == entry.member.incarnation;
    if (said.state == MemberState::kSuspect && is_up(entry.member.state) &&
        (same || overrules(said, entry.member))) {
        if (!same) entry.member.incarnation = said.incarnation;
        return accuse(now_us, entry, from, effects);
    }
    if (!overrules(said, entry.member)) return;
    const bool is_seen = entry.linked && is_up(entry.member.state);
    if (said.state == MemberState::kDead && is_seen && said.instance == entry.member.instance) {
        return doubt(now_us, entry, from, said, effects);
    }
    Member now = said;
    if (said.instance == entry.member.instance &&
        said.advert_version < entry.member.advert_version) {
        now.advert_version = entry.member.advert_version;
        now.advert = entry.member.advert;
    }
    if (now.state == MemberState::kSuspect) now.state = MemberState::kAlive;
    if (said.instance > entry.member.instance && is_up(entry.member.state)) {
        Member gone = entry.member;
        gone.state = MemberState::kDead;
        change(now_us, entry, gone, "was started again", effects);
    }
    const bool dies = is_up(entry.member.state) && !is_up(now.state);
    change(now_us, entry, now, "told by " + from.brief(), effects);
    if (dies) tell_everyone(&entry, effects);
    if (is_up(entry.member.state) && !entry.linked) effects.emplace_back(Connect{said.id});
}

void Membership::send(const PeerId& to, GossipMessage message, Effects& effects) {
    message.members = pick_news(to);
    effects.emplace_back(Send{to, std::move(message)});
}

/// The news told least often; what is said against the receiver itself always, so that it can
/// refute it (Lifeguard's buddy system).
std::vector<Member> Membership::pick_news(const PeerId& to) {
    const double size = static_cast<double>(entries_.size() + 1);
    const auto limit =
        static_cast<unsigned>(settings_.retransmit_factor * std::ceil(std::log10(size + 1)));
    std::vector<Member> news;
    if (self_told_ < limit) {
        ++self_told_;
        news.push_back(self_);
    }
    if (const auto it = entries_.find(to);
        it != entries_.end() && it->second.member.state != MemberState::kAlive) {
        news.push_back(it->second.member);
    }
    std::vector<Entry*> told;
    std::size_t size_bytes = 0;
    for (const auto& [times, id] : news_) {
        if (times >= limit || news.size() >= settings_.news_members) break;
        if (id == to) continue;
        Entry& entry = entries_.at(id);
        size_bytes += approximate_bytes(entry.member);
        if (size_bytes > settings_.page_bytes) break;
        news.push_back(entry.member);
        told.push_back(&entry);
    }
    for (Entry* entry : told) {
        news_.erase({entry->told, entry->member.id});
        if (++entry->told < limit) news_.emplace(entry->told, entry->member.id);
    }
    return news;
}

/// At once; `entry` null: of ourselves. In a large mesh the deaths of others, which many tell, go
/// to some, and by gossip to the rest.
void Membership::tell_everyone(Entry* entry, Effects& effects) {
    const Member& member = entry == nullptr ? self_ : entry->member;
    std::vector<PeerId> linked;
    for (const auto& [id, each] : entries_) {
        if (each.linked) linked.push_back(id);
    }
    if (entry != nullptr && linked.size() > settings_.told_at_once) {
        for (std::size_t i = 0; i < settings_.told_at_once; ++i) {
            std::swap(linked[i], linked[i + random_.next() % (linked.size() - i)]);
        }
        linked.resize(settings_.told_at_once);
    }
    for (const PeerId& id : linked) {
        effects.emplace_back(Send{id, {GossipMessage::Kind::kNews, 0, {}, {member}}});
    }
}

// Links.

void Membership::on(std::int64_t now_us, const LinkOpened& event, Effects& effects) {
    if (left_) return;
    learn(now_us, event.member.id, event.member, effects);
    const auto found = entries_.find(event.member.id);
    if (found == entries_.end()) return;
    Entry& entry = found->second;
    entry.linked = true;
    if (event.member.instance < entry.member.instance && is_up(entry.member.state)) {
        // An earlier daemon answers for its key, and no link to the later one is left: a copied
        // home whose copy is gone. What it says would count for nothing until it rises above that
        // one, which has a moment to object.
        Member gone = entry.member;
        gone.state = MemberState::kDead;
        doubt(now_us, entry, self_.id, gone, effects);
    }
    GossipMessage news{GossipMessage::Kind::kNews, 0, {}, {self_}};
    const bool was_apart = entry.member.state != MemberState::kAlive;
    if (was_apart) news.members.push_back(entry.member);  // It refutes that.
    effects.emplace_back(Send{event.member.id, std::move(news)});
    if (was_apart) {
        // From beyond a partition, perhaps: what else is known there?
        effects.emplace_back(
            Send{event.member.id, {GossipMessage::Kind::kDigest, digest(), {}, {}}});
    } else if (!introducer_) {
        ask_for_all(effects);
    }
}

void Membership::on(std::int64_t /*now_us*/, const LinkClosed& event, Effects& effects) {
    const auto found = entries_.find(event.peer);
    if (found == entries_.end()) return;
    found->second.linked = false;
    if (introducer_ == event.peer) ask_for_all(effects);
    // What the connecting finds out is told by ConnectRefused or LinkOpened; or nothing comes.
    if (!left_ && is_up(found->second.member.state)) effects.emplace_back(Connect{event.peer});
    probe_order_.push_front(event.peer);
    next_probe_us_ = 0;
}

void Membership::on(std::int64_t now_us, const ConnectRefused& event, Effects& effects) {
    const auto found = entries_.find(event.peer);
    if (found == entries_.end() || left_ || !is_up(found->second.member.state)) return;
    if (found->second.linked) return;
    bury(now_us, found->second, "its process is gone", effects);
}

void Membership::on(std::int64_t /*now_us*/, const AdvertChanged& event, Effects& /*effects*/) {
    if (event.advert.size() > kMaxAdvertBytes) return;
    self_.advert = event.advert;
    ++self_.advert_version;
    self_told_ = 0;
}

void Membership::on(std::int64_t /*now_us*/, const Leave&, Effects& effects) {
    self_.state = MemberState::kLeft;
    tell_everyone(nullptr, effects);
    left_ = true;
}

}  // namespace ppdsm
