// What links, membership and joining carry.
#include "dsm/base/base32.h"
#include "dsm/wire/codec.h"
#include "dsm/wire/frame.h"
#include "messages_generated.h"
#include "runtime/peer/mesh/capacity.h"
#include "runtime/peer/mesh/gossip_codec.h"
#include "runtime/peer/mesh/invite.h"
#include "runtime/peer/mesh/warrants.h"
#include "tests/fuzz/formats.h"
#include "tests/fuzz/unnamed_file.h"

namespace ppdsm::fuzz {

namespace {

Member a_member() {
    Member member;
    member.id = filled<PeerId>(4);
    member.instance = 5;
    member.incarnation = 6;
    member.state = MemberState::kSuspect;
    member.name = "name";
    member.addresses = {"10.0.0.1:7", "[::1]:8"};
    member.advert_version = 9;
    member.advert = {1, 2, 3};
    return member;
}

GossipMessage a_gossip() {
    GossipMessage gossip{GossipMessage::Kind::kVersions, 17, filled<PeerId>(3), {}, {}};
    gossip.members.push_back(a_member());
    gossip.versions.push_back({filled<PeerId>(5), 10, 11, MemberState::kLeft, 12});
    return gossip;
}

std::vector<TrustEntry> a_trust() {
    TrustEntry entry;
    entry.key.bytes.fill(8);
    entry.name = "friend";
    entry.added_unix_ms = 1'600'000'000'000;
    entry.added_by = filled<PeerId>(2);
    entry.version = 3;
    return {entry};
}

Capacity a_capacity() {
    Capacity capacity;
    capacity.speed = 812.5;
    capacity.cores = 4;
    capacity.memory_bytes = std::uint64_t{8} << 30;
    capacity.free_memory_bytes = std::uint64_t{3} << 30;
    capacity.load = 0.25;
    capacity.hosted = 2;
    capacity.max_cpus = 1.5;
    capacity.drained = true;
    capacity.uid = 1000;
    capacity.host = {"4.1.1", "6.1.0", "x86_64", {"avx", "sse2"}};
    return capacity;
}

/// Frames as they come, in pieces of changing size.
Result<Bytes> frames_again(ByteView bytes) {
    FrameReader reader;
    Bytes all;
    for (std::size_t at = 0, step = 1; at < bytes.size(); at += step, step = step % 37 + 1) {
        const Status fed =
            reader.feed(bytes.subspan(at, std::min(step, bytes.size() - at)), [&](Frame frame) {
                const Bytes again = encode_frame(frame.type, frame.correlation, frame.payload);
                all.insert(all.end(), again.begin(), again.end());
                return Status();
            });
        if (!fed) return fail(fed.error());
    }
    return all;
}

Bytes two_frames() {
    Bytes bytes = encode_frame(MessageType::kHello, 0, as_bytes("greeting"));
    const Bytes second = encode_frame(MessageType::kAnswer, 77, as_bytes("answer"));
    bytes.insert(bytes.end(), second.begin(), second.end());
    return bytes;
}

/// A table of the object API.
template <typename Table>
Format table(std::string name, const typename Table::NativeTableType& sample) {
    return format_of(std::move(name), sample, encode_message<Table>, decode_message<Table>);
}

/// The inviter's side. The invitation is used up already, so that nothing has to be written down.
Result<Bytes> join_again(const Invitation& invitation, ByteView request) {
    const auto key = filled<PublicKey>(9);
    constexpr std::array<std::uint8_t, 32> kChannel{};
    const UnnamedFile open(as_bytes(
        R"([{"id":")" + encode_base32(invitation.id) + R"(","proof_key":")" +
        encode_base32(sha256(invitation.secret)) + R"(","expires_unix_ms":0,"used":true}])"));
    PPDSM_ASSIGN(Invitations invitations, Invitations::open(open.path()));
    PPDSM_ASSIGN(const Invitations::Request judged, invitations.judge(request, key, kChannel));
    if (judged.verdict != JoinVerdict::kUsed) return fail(explain_verdict(judged.verdict).error());
    return encode_join_request(invitation, key, kChannel, judged.name);
}

void add_tables(std::vector<Format>& all) {
    wire::GenerationNameT generation;
    generation.vc = "aaaabbbb";
    generation.generation = 3;
    all.push_back(table<wire::GenerationName>("generation-name", generation));
    const Warrant warrant{"aaaabbbb", filled<PeerId>(1), filled<PeerId>(2), Bytes(64, 3)};
    all.push_back(format_of("warrant", warrant, encode_warrant, decode_warrant));
    wire::AnswerT answer;
    answer.error_code = 2;
    answer.error = "why";
    all.push_back(table<wire::Answer>("answer", answer));
    wire::CommandT command;
    command.vc = "aaaabbbb";
    command.epoch = 4;
    command.head = R"({"do":"fence","why":"so"})";
    command.data = {1, 2};
    all.push_back(table<wire::Command>("command", command));
    wire::EventT event;
    event.vc = "aaaabbbb";
    event.epoch = 4;
    event.head = R"({"event":"started","pid":7})";
    event.data = {3};
    all.push_back(table<wire::Event>("event", event));
    wire::OutputT output;
    output.vc = "aaaabbbb";
    output.epoch = 4;
    output.offset_bytes = 5;
    output.data = {6, 7};
    all.push_back(table<wire::Output>("output", output));
}

}  // namespace

void add_link_formats(std::vector<Format>& all) {
    // A header alone may make a reader hold 1 MiB.
    all.push_back({"frames", two_frames(), frames_again, std::size_t{2} << 20});
    const auto preamble = encode_preamble();
    all.push_back(
        {"preamble", {preamble.begin(), preamble.end()}, [](ByteView bytes) -> Result<Bytes> {
             PPDSM_TRY(check_preamble(bytes));
             const auto ours = encode_preamble();
             return Bytes(ours.begin(), ours.end());
         }});
    all.push_back(format_of("gossip", a_gossip(), encode_gossip, decode_gossip));
    all.push_back(format_of("hello", a_member(), encode_hello,
                            [](ByteView bytes) { return decode_hello(filled<PeerId>(4), bytes); }));
    all.push_back(format_of("trust", a_trust(), encode_trust, decode_trust));
    all.push_back(format_of("capacity", a_capacity(), encode_capacity, decode_capacity));
    all.push_back(
        format_of("join-answer", JoinVerdict::kUsed, encode_join_answer, decode_join_answer));
    Invitation invitation;
    invitation.inviter = filled<PeerId>(1);
    invitation.id.fill(2);
    invitation.secret.fill(3);
    invitation.addresses = {"10.0.0.1:7717"};
    all.push_back(format_of(
        "invitation", invitation, [](const Invitation& each) { return to_bytes(each.to_token()); },
        [](ByteView bytes) { return Invitation::parse(as_text(bytes)); }));
    all.push_back({"join-request",
                   encode_join_request(invitation, filled<PublicKey>(9), {}, "joiner"),
                   [invitation](ByteView bytes) { return join_again(invitation, bytes); }});
    add_tables(all);
}

}  // namespace ppdsm::fuzz
