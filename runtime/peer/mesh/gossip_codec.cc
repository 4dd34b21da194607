#include "runtime/peer/mesh/gossip_codec.h"

#include <algorithm>

#include "dsm/wire/codec.h"
#include "messages_generated.h"

namespace ppdsm {

namespace {

constexpr std::size_t kMaxAddresses = 16;
constexpr std::size_t kMaxTextBytes = 255;
constexpr std::size_t kMaxVersions = 1024;
static_assert(kMaxVersions >= MembershipSettings{}.page_versions);

/// Addresses are written to JSON files and printed: what is no visible ASCII is none.
bool is_address(const std::string& text) {
    return text.size() <= kMaxTextBytes &&
           std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

std::vector<std::string> addresses_of(const std::vector<std::string>& texts) {
    std::vector<std::string> kept;
    for (const std::string& text : texts) {
        if (kept.size() < kMaxAddresses && is_address(text)) kept.push_back(text);
    }
    return kept;
}

std::unique_ptr<wire::MemberT> pack(const Member& member) {
    auto packed = std::make_unique<wire::MemberT>();
    packed->peer = bytes_of(member.id);
    packed->instance = member.instance;
    packed->incarnation = member.incarnation;
    packed->state = static_cast<std::uint8_t>(member.state);
    packed->name = member.name;
    packed->addresses = member.addresses;
    packed->advert_version = member.advert_version;
    packed->advert = member.advert;
    return packed;
}

std::unique_ptr<wire::MemberVersionT> pack(const MemberVersion& version) {
    auto packed = std::make_unique<wire::MemberVersionT>();
    packed->peer = bytes_of(version.id);
    packed->instance = version.instance;
    packed->incarnation = version.incarnation;
    packed->state = static_cast<std::uint8_t>(version.state);
    packed->advert_version = version.advert_version;
    return packed;
}

Result<MemberState> state_from(std::uint8_t packed) {
    if (packed > static_cast<std::uint8_t>(MemberState::kLeft)) {
        return fail(Code::kCorrupt, "a member in an unknown state");
    }
    return static_cast<MemberState>(packed);
}

Result<MemberVersion> unpack(const wire::MemberVersionT& packed) {
    MemberVersion version;
    PPDSM_ASSIGN(version.id, peer_id_from(packed.peer));
    PPDSM_ASSIGN(version.state, state_from(packed.state));
    version.instance = packed.instance;
    version.incarnation = packed.incarnation;
    version.advert_version = packed.advert_version;
    return version;
}

Result<Member> unpack(const wire::MemberT& packed) {
    Member member;
    PPDSM_ASSIGN(member.id, peer_id_from(packed.peer));
    PPDSM_ASSIGN(member.state, state_from(packed.state));
    if (packed.advert.size() > kMaxAdvertBytes) {
        return fail(Code::kCorrupt, "a member that says too much of itself");
    }
    member.instance = packed.instance;
    member.incarnation = packed.incarnation;
    member.name = packed.name.substr(0, kMaxTextBytes);
    member.addresses = addresses_of(packed.addresses);
    member.advert_version = packed.advert_version;
    member.advert = packed.advert;
    return member;
}

}  // namespace

Bytes bytes_of(const PeerId& id) { return {id.bytes.begin(), id.bytes.end()}; }

Result<PeerId> peer_id_from(ByteView bytes) {
    PeerId id;
    if (bytes.size() != id.bytes.size()) return fail(Code::kCorrupt, "a peer id of wrong length");
    std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
    return id;
}

Bytes encode_gossip(const GossipMessage& message) {
    wire::GossipT packed;
    packed.kind = static_cast<std::uint8_t>(message.kind);
    packed.sequence = message.sequence;
    packed.target = bytes_of(message.target);
    for (const Member& member : message.members) packed.members.push_back(pack(member));
    for (const MemberVersion& version : message.versions) packed.versions.push_back(pack(version));
    return encode_message<wire::Gossip>(packed);
}

Result<GossipMessage> decode_gossip(ByteView bytes) {
    PPDSM_ASSIGN(const wire::GossipT packed, decode_message<wire::Gossip>(bytes));
    if (packed.kind > static_cast<std::uint8_t>(GossipMessage::Kind::kWant)) {
        return fail(Code::kCorrupt, "gossip of an unknown kind");
    }
    GossipMessage message;
    message.kind = static_cast<GossipMessage::Kind>(packed.kind);
    message.sequence = packed.sequence;
    PPDSM_ASSIGN(message.target, peer_id_from(packed.target));
    for (const auto& each : packed.members) {
        PPDSM_ASSIGN(Member member, unpack(*each));
        message.members.push_back(std::move(member));
    }
    // What we want of them must fit into our answer's frame, too.
    if (packed.versions.size() > kMaxVersions) {
        return fail(Code::kCorrupt, "gossip about too many members at once");
    }
    for (const auto& each : packed.versions) {
        PPDSM_ASSIGN(const MemberVersion version, unpack(*each));
        message.versions.push_back(version);
    }
    return message;
}

Bytes encode_hello(const Member& self) {
    wire::HelloT hello;
    hello.name = self.name;
    hello.release = PPDSM_VERSION;
    hello.instance = self.instance;
    hello.incarnation = self.incarnation;
    hello.addresses = self.addresses;
    return encode_message<wire::Hello>(hello);
}

Result<Member> decode_hello(const PeerId& peer, ByteView bytes) {
    PPDSM_ASSIGN(const wire::HelloT hello, decode_message<wire::Hello>(bytes));
    Member member;
    member.id = peer;
    member.instance = hello.instance;
    member.incarnation = hello.incarnation;
    member.name = hello.name.substr(0, kMaxTextBytes);
    member.addresses = addresses_of(hello.addresses);
    return member;
}

Bytes encode_trust(const std::vector<TrustEntry>& entries) {
    wire::TrustT packed;
    for (const TrustEntry& entry : entries) {
        auto each = std::make_unique<wire::TrustEntryT>();
        each->key.assign(entry.key.bytes.begin(), entry.key.bytes.end());
        each->name = entry.name;
        each->added_unix_ms = entry.added_unix_ms;
        each->added_by = bytes_of(entry.added_by);
        each->removed = entry.removed;
        each->version = entry.version;
        packed.entries.push_back(std::move(each));
    }
    return encode_message<wire::Trust>(packed);
}

Result<std::vector<TrustEntry>> decode_trust(ByteView bytes) {
    PPDSM_ASSIGN(const wire::TrustT packed, decode_message<wire::Trust>(bytes));
    if (packed.entries.size() > Trust::kMaxEntries) {
        return fail(Code::kCorrupt, "an allow list that is too long");
    }
    std::vector<TrustEntry> entries;
    for (const auto& each : packed.entries) {
        TrustEntry entry;
        if (each->key.size() != entry.key.bytes.size()) {
            return fail(Code::kCorrupt, "a key of wrong length");
        }
        std::copy(each->key.begin(), each->key.end(), entry.key.bytes.begin());
        entry.name = each->name.substr(0, kMaxTextBytes);
        entry.added_unix_ms = each->added_unix_ms;
        PPDSM_ASSIGN(entry.added_by, peer_id_from(each->added_by));
        entry.removed = each->removed;
        entry.version = each->version;
        entries.push_back(std::move(entry));
    }
    return entries;
}

}  // namespace ppdsm
