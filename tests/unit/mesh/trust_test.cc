// Goal: an invitation admits one peer, once, in time, and who is on the allow list does not depend
// on the order in which peers tell each other. Method: real files, real keys, every way to go
// wrong.
#include "runtime/peer/mesh/trust.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/peer/mesh/invite.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

class TrustTest : public testing::Test {
protected:
    TrustTest()
        : directory_(fs::temp_directory_path() / ("ppdsm-trust-" + std::to_string(::getpid()))) {
        fs::create_directories(directory_);
    }
    ~TrustTest() override { fs::remove_all(directory_); }

    Trust open_trust(const std::string& name) { return Trust::open(directory_ / name).value(); }
    static PublicKey key(std::uint8_t first) {
        PublicKey key;
        key.bytes[0] = first;
        return key;
    }
    fs::path directory_;
};

TEST_F(TrustTest, OutlivesARestart) {
    {
        Trust trust = open_trust("t");
        ASSERT_TRUE(trust.add(key(1), "one", key(9).id()));
        ASSERT_TRUE(trust.add(key(2), "two", key(9).id()));
        ASSERT_TRUE(trust.remove(key(1).id()));
        EXPECT_EQ(trust.remove(key(1).id()).error().code(), Code::kNotFound);
    }
    const Trust trust = open_trust("t");
    EXPECT_FALSE(trust.allows(key(1)));
    EXPECT_TRUE(trust.allows(key(2)));
    EXPECT_EQ(trust.find(key(2).id())->name, "two");
}

TEST_F(TrustTest, MergesToTheSameInAnyOrder) {
    Trust a = open_trust("a"), b = open_trust("b"), c = open_trust("c");
    ASSERT_TRUE(a.add(key(1), "one", key(9).id()));
    ASSERT_TRUE(b.add(key(1), "uno", key(8).id()));
    ASSERT_TRUE(b.add(key(2), "two", key(9).id()));
    ASSERT_TRUE(c.merge(b.entries()));
    ASSERT_TRUE(c.remove(key(2).id()));
    const std::vector<std::vector<TrustEntry>> lists = {a.entries(), b.entries(), c.entries()};
    const auto merged = [&](std::vector<std::size_t> order) {
        Trust trust = open_trust("m" + std::to_string(order[0]) + std::to_string(order[1]));
        for (const std::size_t i : order) EXPECT_TRUE(trust.merge(lists[i]));
        EXPECT_FALSE(trust.merge(lists[order[0]]).value()) << "merging again changes nothing";
        std::string text;
        for (const TrustEntry& entry : trust.entries()) {
            text += entry.name + std::to_string(entry.version) + (entry.removed ? "-" : "+");
        }
        return text;
    };
    const std::string expected = merged({0, 1, 2});
    EXPECT_EQ(merged({2, 1, 0}), expected);
    EXPECT_EQ(merged({1, 2, 0}), expected);
    EXPECT_EQ(merged({2, 0, 1}), expected);
    EXPECT_TRUE(expected.ends_with("-"));
}

TEST_F(TrustTest, AnInvitationIsReadBackAndAWrongLetterIsSeen) {
    Invitations invitations = Invitations::open(directory_ / "i").value();
    const Invitation invitation =
        invitations.issue(key(1).id(), {"10.0.0.1:7717", "[::1]:7717"}, 60'000).value();
    const std::string token = invitation.to_token();
    const Invitation read = Invitation::parse(token).value();
    EXPECT_EQ(read.inviter, key(1).id());
    EXPECT_EQ(read.addresses, invitation.addresses);
    EXPECT_EQ(read.secret, invitation.secret);
    for (std::size_t i = 0; i < token.size(); ++i) {
        std::string wrong = token;
        wrong[i] = wrong[i] == 'a' ? 'b' : 'a';
        EXPECT_FALSE(Invitation::parse(wrong)) << i;
        EXPECT_FALSE(Invitation::parse(token.substr(0, i))) << i;
    }
}

TEST_F(TrustTest, AnInvitationAdmitsOneKeyOnceAndInTime) {
    const std::array<std::uint8_t, 32> channel{1, 2, 3};
    Invitations invitations = Invitations::open(directory_ / "i").value();
    const Invitation invitation = invitations.issue(key(1).id(), {}, 60'000).value();
    const Invitation late = invitations.issue(key(1).id(), {}, -1).value();
    const auto judge = [&](const Invitation& shown, const PublicKey& who,
                           const std::array<std::uint8_t, 32>& over) {
        const Bytes request = encode_join_request(shown, key(5), over, "five");
        return invitations.judge(request, who, channel).value().verdict;
    };
    EXPECT_EQ(judge(invitation, key(6), channel), JoinVerdict::kRefused) << "another's key";
    EXPECT_EQ(judge(invitation, key(5), {9}), JoinVerdict::kRefused) << "another connection";
    Invitation guessed = invitation;
    guessed.secret[0] ^= 1;
    EXPECT_EQ(judge(guessed, key(5), channel), JoinVerdict::kRefused);
    EXPECT_EQ(judge(late, key(5), channel), JoinVerdict::kExpired);
    EXPECT_EQ(judge(invitation, key(5), channel), JoinVerdict::kAdmitted);
    invitations = Invitations::open(directory_ / "i").value();
    EXPECT_EQ(judge(invitation, key(5), channel), JoinVerdict::kUsed);
    EXPECT_FALSE(invitations.judge(Bytes(kJoinRequestBytes), key(5), channel));
}

}  // namespace
}  // namespace ppdsm
