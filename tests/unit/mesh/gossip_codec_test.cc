// Goal: what members say to each other arrives as it was said; what is no gossip is refused.
#include "runtime/peer/mesh/gossip_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "runtime/peer/mesh/capacity.h"

namespace ppdsm {
namespace {

PeerId id(std::uint8_t first) {
    PeerId peer;
    peer.bytes.fill(first);
    return peer;
}

GossipMessage message() {
    GossipMessage gossip{GossipMessage::Kind::kVersions, 17, id(3), {}, {}};
    Member member;
    member.id = id(4);
    member.instance = 5;
    member.incarnation = 6;
    member.state = MemberState::kSuspect;
    member.name = "name";
    member.addresses = {"10.0.0.1:7", "[::1]:8"};
    member.advert_version = 9;
    member.advert = {1, 2, 3};
    gossip.members.push_back(member);
    gossip.versions.push_back({id(5), 10, 11, MemberState::kLeft, 12});
    return gossip;
}

TEST(GossipCodec, GivesBackWhatWasSaid) {
    const GossipMessage said = message();
    const Result<GossipMessage> heard = decode_gossip(encode_gossip(said));
    ASSERT_TRUE(heard) << heard.error().message();
    EXPECT_EQ(heard->kind, said.kind);
    EXPECT_EQ(heard->sequence, said.sequence);
    EXPECT_EQ(heard->target, said.target);
    ASSERT_EQ(heard->members.size(), 1U);
    EXPECT_EQ(heard->members[0].id, said.members[0].id);
    EXPECT_EQ(heard->members[0].state, said.members[0].state);
    EXPECT_EQ(heard->members[0].addresses, said.members[0].addresses);
    EXPECT_EQ(heard->members[0].advert, said.members[0].advert);
    ASSERT_EQ(heard->versions.size(), 1U);
    EXPECT_EQ(heard->versions[0].id, said.versions[0].id);
    EXPECT_EQ(heard->versions[0].instance, 10U);
    EXPECT_EQ(heard->versions[0].incarnation, 11U);
    EXPECT_EQ(heard->versions[0].state, MemberState::kLeft);
    EXPECT_EQ(heard->versions[0].advert_version, 12U);
}

TEST(GossipCodec, RefusesWhatIsNone) {
    GossipMessage said = message();
    said.versions[0].state = static_cast<MemberState>(4);
    EXPECT_FALSE(decode_gossip(encode_gossip(said)));
    said = message();
    said.kind = static_cast<GossipMessage::Kind>(8);
    EXPECT_FALSE(decode_gossip(encode_gossip(said)));
    said = message();
    said.members[0].advert.resize(kMaxAdvertBytes + 1);
    EXPECT_FALSE(decode_gossip(encode_gossip(said)));
    EXPECT_FALSE(decode_gossip({}));
}

TEST(GossipCodec, TakesNoMoreVersionsThanAnAnswerHolds) {
    GossipMessage said = message();
    said.versions.resize(1024, said.versions[0]);
    EXPECT_LE(encode_gossip(said).size(), max_payload_bytes(MessageType::kGossip));
    EXPECT_TRUE(decode_gossip(encode_gossip(said)));
    said.versions.push_back(said.versions[0]);
    EXPECT_FALSE(decode_gossip(encode_gossip(said)));
}

TEST(GossipCodec, AFullAllowListFitsIntoItsFrame) {
    TrustEntry entry;
    entry.name.assign(255, 'n');
    entry.added_unix_ms = 1;
    entry.removed = true;
    entry.version = 2;
    const Bytes payload = encode_trust(std::vector(Trust::kMaxEntries, entry));
    EXPECT_LE(payload.size(), max_payload_bytes(MessageType::kTrust));
    const auto read = decode_trust(payload);
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(read->size(), Trust::kMaxEntries);
}

TEST(GossipCodec, AddressesThatAreNoTextAreDropped) {
    GossipMessage said = message();
    Member& member = said.members[0];
    member.addresses = {"192.0.2.1:7117", "\xFF\xFE:1",          "a b:1",
                        "a\n:1",          std::string(256, 'a'), "[2001:db8::1]:7117"};
    const std::vector<std::string> sound = {member.addresses.front(), member.addresses.back()};
    const auto gossip = decode_gossip(encode_gossip(said));
    ASSERT_TRUE(gossip);
    EXPECT_EQ(gossip->members.front().addresses, sound);
    const auto hello = decode_hello(member.id, encode_hello(member));
    ASSERT_TRUE(hello);
    EXPECT_EQ(hello->addresses, sound);
}

TEST(GossipCodec, ACapacityThatCannotBeSortedIsRefused) {
    EXPECT_TRUE(decode_capacity(encode_capacity({})));
    for (const double number : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, -1.0}) {
        for (double Capacity::* field : {&Capacity::speed, &Capacity::load, &Capacity::max_cpus}) {
            Capacity capacity;
            capacity.*field = number;
            EXPECT_FALSE(decode_capacity(encode_capacity(capacity))) << number;
        }
    }
}

}  // namespace
}  // namespace ppdsm
