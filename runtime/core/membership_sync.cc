// How two members find out what the other knows better, for the few words that gossip has missed, a
// newcomer and a mesh that was in parts: a digest; if it differs, the versions of all, page by
// page; then only the records that are later at either side.
#include <algorithm>

#include "runtime/core/membership.h"
#include "runtime/core/membership_order.h"

namespace ppdsm {

using namespace membership;

namespace {

MemberVersion version_of(const Member& member) {
    return {member.id, member.instance, member.incarnation, member.state, member.advert_version};
}

template <typename Mine, typename Theirs>
bool is_later(const Mine& mine, const Theirs& theirs) {
    return overrules(mine, theirs) ||
           (mine.instance == theirs.instance && mine.advert_version > theirs.advert_version);
}

}  // namespace

/// Ourselves among them.
std::vector<const Member*> Membership::all_by_id() const {
    std::vector<const Member*> all = members();
    const auto at =
        std::upper_bound(all.begin(), all.end(), self_.id,
                         [](const PeerId& id, const Member* member) { return id < member->id; });
    all.insert(at, &self_);
    return all;
}

/// Of those who are up, in whatever order: suspicions pass, and the dead are forgotten in time.
std::uint64_t Membership::digest() const {
    std::uint64_t sum = 0;
    for (const Member* member : all_by_id()) {
        if (!is_up(member->state)) continue;
        std::uint64_t mixed = 0;
        for (const std::uint8_t byte : member->id.bytes) mixed = mixed * 31 + byte;
        for (const std::uint64_t each :
             {member->instance, member->incarnation, member->advert_version}) {
            mixed = SeededRandom::mix(mixed ^ each);
        }
        sum += mixed;
    }
    return sum;
}

/// By whom we are linked to: once, as a newcomer, and again when who was asked is gone.
void Membership::ask_for_all(Effects& effects) {
    introducer_.reset();
    for (const auto& [id, entry] : entries_) {
        if (!entry.linked || entry.member.state != MemberState::kAlive) continue;
        introducer_ = id;
        effects.emplace_back(Send{id, {GossipMessage::Kind::kDigest, digest(), {}, {}}});
        return;
    }
}

void Membership::send_versions(const PeerId& to, Effects& effects) const {
    GossipMessage page{GossipMessage::Kind::kVersions, 0, {}, {}};
    for (const Member* member : all_by_id()) {
        if (page.versions.size() == settings_.page_versions) {
            const PeerId last = page.versions.back().id;
            effects.emplace_back(Send{to, std::exchange(page, {page.kind, 0, last, {}})});
        }
        page.versions.push_back(version_of(*member));
    }
    page.sequence = 1;
    effects.emplace_back(Send{to, std::move(page)});
}

void Membership::on_versions(const PeerId& from, const GossipMessage& page,
                             Effects& effects) const {
    std::map<PeerId, MemberVersion> theirs;
    for (const MemberVersion& version : page.versions) theirs[version.id] = version;
    const bool is_last = page.sequence == 1;
    if (theirs.empty() && !is_last) return;
    const PeerId end = theirs.empty() ? PeerId{} : theirs.rbegin()->first;
    std::vector<const Member*> lacking;
    GossipMessage want{GossipMessage::Kind::kWant, 0, {}, {}};
    for (const Member* mine : all_by_id()) {
        const bool is_on_page = page.target < mine->id && (is_last || mine->id <= end);
        const auto known = theirs.find(mine->id);
        if (known == theirs.end()) {
            if (is_on_page) lacking.push_back(mine);
            continue;
        }
        if (is_later(*mine, known->second)) lacking.push_back(mine);
        if (is_later(known->second, *mine)) want.versions.push_back(known->second);
        theirs.erase(known);
    }
    for (const auto& [id, version] : theirs) {
        if (is_up(version.state)) want.versions.push_back(version);
    }
    send_members(from, lacking, effects);
    if (!want.versions.empty()) effects.emplace_back(Send{from, std::move(want)});
}

void Membership::on_want(const PeerId& from, const GossipMessage& wanted, Effects& effects) const {
    std::vector<const Member*> found;
    for (const MemberVersion& version : wanted.versions) {
        const Member* member = version.id == self_.id ? &self_ : find(version.id);
        if (member != nullptr) found.push_back(member);
    }
    send_members(from, found, effects);
}

void Membership::send_members(const PeerId& to, const std::vector<const Member*>& members,
                              Effects& effects) const {
    GossipMessage page{GossipMessage::Kind::kNews, 0, {}, {}};
    std::size_t size_bytes = 0;
    for (const Member* member : members) {
        size_bytes += approximate_bytes(*member);
        if (!page.members.empty() && size_bytes > settings_.page_bytes) {
            effects.emplace_back(Send{to, std::exchange(page, {page.kind, 0, {}, {}})});
            size_bytes = approximate_bytes(*member);
        }
        page.members.push_back(*member);
    }
    if (!page.members.empty()) effects.emplace_back(Send{to, std::move(page)});
}

}  // namespace ppdsm
