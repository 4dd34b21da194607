// Of two records of a member, which is the later one; for the membership's own sources.
#pragma once

#include <cstddef>

#include "runtime/core/membership.h"

namespace ppdsm::membership {

/// What is worse overrules what is better, said of the same incarnation.
inline int severity(MemberState state) {
    switch (state) {
        case MemberState::kAlive: return 0;
        case MemberState::kSuspect: return 1;
        case MemberState::kDead: return 2;
        case MemberState::kLeft: return 3;
    }
    return 0;
}

/// Of Member or MemberVersion.
template <typename Said, typename Known>
bool overrules(const Said& said, const Known& known) {
    if (said.instance != known.instance) return said.instance > known.instance;
    if (known.state == MemberState::kLeft) return false;
    if (said.incarnation != known.incarnation) return said.incarnation > known.incarnation;
    return severity(said.state) > severity(known.state);
}

inline bool is_up(MemberState state) {
    return state == MemberState::kAlive || state == MemberState::kSuspect;
}

/// In a message.
inline std::size_t approximate_bytes(const Member& member) {
    std::size_t size_bytes = 128 + member.name.size() + member.advert.size();
    for (const std::string& address : member.addresses) size_bytes += 8 + address.size();
    return size_bytes;
}

}  // namespace ppdsm::membership
