// Who belongs to the mesh and is alive, agreed upon without a centre: SWIM (Das, Gupta, Motivala
// 2002) with the refinements of Lifeguard (Dadgar, Phillips, Currey 2018) over links that are
// connections: a closed one is a hint at once, a refused one is certainty.
//
// Pure: time and messages come in as events, what is to be done goes out as effects.
// docs/membership.md has the messages and the timing.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "dsm/base/files.h"
#include "dsm/base/peer_id.h"
#include "runtime/core/seeded_random.h"

namespace ppdsm {

enum class MemberState : std::uint8_t { kAlive, kSuspect, kDead, kLeft };
[[nodiscard]] const char* member_state_name(MemberState state);

struct Member {
    PeerId id;
    /// Of its daemon's process: later starts have greater ones.
    std::uint64_t instance = 0;
    /// Raised by the member itself to refute what is said of it.
    std::uint64_t incarnation = 0;
    MemberState state = MemberState::kAlive;
    std::string name;
    std::vector<std::string> addresses;
    std::uint64_t advert_version = 0;
    Bytes advert;  ///< What it says of itself, opaque here; at most kMaxAdvertBytes.
};

/// Which of two records of a member is the later one.
struct MemberVersion {
    PeerId id;
    std::uint64_t instance = 0;
    std::uint64_t incarnation = 0;
    MemberState state = MemberState::kAlive;
    std::uint64_t advert_version = 0;
};

inline constexpr std::size_t kMaxAdvertBytes = 4096;
inline constexpr std::size_t kMaxMembers = 4096;

struct GossipMessage {
    enum class Kind : std::uint8_t {
        kPing,         ///< Answer with kAck.
        kAck,          ///< `sequence` of the ping.
        kPingRequest,  ///< Ping `target` for me; answer with its kAck, or with kNack in time.
        kNack,         ///< It has not answered me either, but I am well.
        kNews,         ///< Only members.
        kDigest,       ///< `sequence`: of all that I hold alive. Is yours another: kVersions.
        kVersions,     ///< A page of what I know, by id; what is later at either side travels.
        kWant,         ///< Answer with kNews of those in `versions`.
    };
    Kind kind = Kind::kNews;
    std::uint64_t sequence = 0;  ///< Of kVersions: 1 on the last page.
    PeerId target;               ///< Of kVersions: the page begins behind it.
    std::vector<Member> members;
    std::vector<MemberVersion> versions = {};
};

struct MembershipSettings {
    std::int64_t period_us = 150'000;         ///< One probe each.
    std::int64_t probe_timeout_us = 150'000;  ///< Then others are asked to probe.
    std::int64_t indirect_timeout_us = 200'000;
    std::int64_t suspicion_min_us = 700'000;  ///< With enough independent confirmations.
    std::int64_t suspicion_max_us = 900'000;
    std::int64_t sync_period_us = 15'000'000;   ///< Digests are compared with somebody.
    std::int64_t revive_period_us = 3'000'000;  ///< Dead ones are called again.
    std::int64_t hearsay_us = 150'000;          ///< To refute what we have not seen ourselves.
    std::int64_t stall_us = 30'000;             ///< Of our own; see excuse_stall.
    unsigned indirect_probes = 3;
    unsigned confirmations = 3;
    unsigned retransmit_factor = 4;     ///< Times log10 of the number of members.
    std::size_t news_members = 24;      ///< Piggybacked at most.
    std::size_t told_at_once = 32;      ///< Of a death that we found out.
    std::size_t page_bytes = 64 << 10;  ///< Of members in one message, about.
    std::size_t page_versions = 512;
    unsigned max_health = 3;
};

namespace membership {

// Events.
struct Tick {};
struct Received {
    PeerId from;
    GossipMessage message;
};
/// A link is open; `member` is what the other side says of itself.
struct LinkOpened {
    Member member;
};
struct LinkClosed {
    PeerId peer;
};
/// Its host answers that nobody listens: the process is gone.
struct ConnectRefused {
    PeerId peer;
};
struct AdvertChanged {
    Bytes advert;
};
struct Leave {};
using Event =
    std::variant<Tick, Received, LinkOpened, LinkClosed, ConnectRefused, AdvertChanged, Leave>;

// Effects.
struct Send {
    PeerId to;
    GossipMessage message;
};
/// There should be a link to it.
struct Connect {
    PeerId peer;
};
struct Changed {
    Member member;
    std::optional<MemberState> before;
    std::string why;
};
using Effect = std::variant<Send, Connect, Changed>;

}  // namespace membership

class Membership {
public:
    /// `seed` decides all that is random.
    Membership(Member self, MembershipSettings settings, std::uint64_t seed);

    void step(std::int64_t now_us, const membership::Event& event,
              std::vector<membership::Effect>& effects);
    /// When a Tick is due.
    [[nodiscard]] std::int64_t next_tick_us() const { return next_tick_us_; }

    [[nodiscard]] const Member& self() const { return self_; }
    /// Without ourselves; the dead and gone too, until they are forgotten.
    [[nodiscard]] std::vector<const Member*> members() const;
    [[nodiscard]] const Member* find(const PeerId& id) const;

private:
    struct Entry {
        Member member;
        bool linked = false;
        std::int64_t suspect_since_us = 0;
        std::set<PeerId> accusers;
        std::int64_t died_us = 0;
        unsigned told = 0;  ///< How often its news was sent; see retransmit_factor.
    };
    struct Probe {
        PeerId target;
        std::uint64_t sequence = 0;
        std::int64_t indirect_at_us = 0;
        std::int64_t ends_us = 0;
        bool asked_others = false;
        unsigned nacks_missing = 0;
    };
    /// A probe for somebody else.
    struct Favour {
        PeerId asker;
        std::uint64_t their_sequence = 0;
        std::int64_t nack_at_us = 0;
        bool nacked = false;
    };
    using Effects = std::vector<membership::Effect>;

    void on(std::int64_t now_us, const membership::Tick&, Effects& effects);
    void on(std::int64_t now_us, const membership::Received& event, Effects& effects);
    void on(std::int64_t now_us, const membership::LinkOpened& event, Effects& effects);
    void on(std::int64_t now_us, const membership::LinkClosed& event, Effects& effects);
    void on(std::int64_t now_us, const membership::ConnectRefused& event, Effects& effects);
    void on(std::int64_t now_us, const membership::AdvertChanged& event, Effects& effects);
    void on(std::int64_t now_us, const membership::Leave&, Effects& effects);

    void learn(std::int64_t now_us, const PeerId& from, const Member& said, Effects& effects);
    void learn_of_self(const Member& said, Effects& effects);
    void change(std::int64_t now_us, Entry& entry, Member now, const std::string& why,
                Effects& effects);
    void accuse(std::int64_t now_us, Entry& entry, const PeerId& accuser, Effects& effects);
    void doubt(std::int64_t now_us, Entry& entry, const PeerId& from, const Member& said,
               Effects& effects);
    void bury(std::int64_t now_us, Entry& entry, const std::string& why, Effects& effects);
    void excuse_stall(std::int64_t late_us);
    void start_probe(std::int64_t now_us, Effects& effects);
    void end_probe(std::int64_t now_us, Effects& effects);
    void watch_probe(std::int64_t now_us, Effects& effects);
    void watch_suspects(std::int64_t now_us, Effects& effects);
    void watch_favours(std::int64_t now_us, Effects& effects);
    void revive(std::int64_t now_us, Effects& effects);
    // Comparing what two members know (membership_sync.cc).
    [[nodiscard]] std::uint64_t digest() const;
    void ask_for_all(Effects& effects);
    void send_versions(const PeerId& to, Effects& effects) const;
    void on_versions(const PeerId& from, const GossipMessage& page, Effects& effects) const;
    void on_want(const PeerId& from, const GossipMessage& wanted, Effects& effects) const;
    void send_members(const PeerId& to, const std::vector<const Member*>& members,
                      Effects& effects) const;
    [[nodiscard]] std::vector<const Member*> all_by_id() const;

    void send(const PeerId& to, GossipMessage message, Effects& effects);
    void make_news(Entry& entry);
    void tell_everyone(Entry* entry, Effects& effects);
    std::vector<Member> pick_news(const PeerId& to);
    [[nodiscard]] std::int64_t suspicion_us(const Entry& entry) const;
    [[nodiscard]] std::int64_t stretched(std::int64_t time_us) const;
    void blame_self(int steps);
    void plan_tick(std::int64_t now_us);

    Member self_;
    MembershipSettings settings_;
    SeededRandom random_;
    std::map<PeerId, Entry> entries_;
    std::set<PeerId> suspects_;
    std::set<std::pair<unsigned, PeerId>> news_;  ///< What was told least often first.
    std::size_t up_count_ = 0;                    ///< Of the others.
    std::optional<PeerId> introducer_;            ///< Was asked for all that it knows.
    std::deque<PeerId> probe_order_;
    std::optional<Probe> probe_;
    std::map<std::uint64_t, Favour> favours_;  ///< By our own sequence.
    std::uint64_t next_sequence_ = 1;
    unsigned self_told_ = 0;
    unsigned health_ = 0;  ///< Lifeguard's: 0 is well; each step stretches our own timeouts.
    bool left_ = false;
    std::int64_t next_probe_us_ = 0;
    std::int64_t next_sync_us_ = 0;
    std::int64_t next_revive_us_ = 0;
    std::int64_t next_tick_us_ = 0;
};

}  // namespace ppdsm
