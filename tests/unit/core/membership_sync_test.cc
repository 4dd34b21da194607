// Goal: two members end up knowing the same, by messages of bounded size, and say nothing when they
// do. Method: two cores whose messages are handed over one by one.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>

#include "runtime/core/membership.h"

namespace ppdsm {
namespace {

using namespace membership;
using Kind = GossipMessage::Kind;

PeerId id(std::uint32_t number) {
    PeerId peer;
    peer.bytes[0] = static_cast<std::uint8_t>(1 + number % 250);
    std::memcpy(peer.bytes.data() + 1, &number, sizeof number);
    return peer;
}

Member member(std::uint32_t number) {
    Member m;
    m.id = id(number);
    m.instance = 1;
    m.name = "n" + std::to_string(number);
    return m;
}

class MembershipSyncTest : public testing::Test {
protected:
    /// Everything that both say, until neither says more.
    void talk(Membership& left, Membership& right) {
        for (std::vector<Effect> effects; !waiting_.empty();) {
            const Send send = std::move(waiting_.front());
            waiting_.pop_front();
            if (send.to != left.self().id && send.to != right.self().id) continue;
            ++said_[send.message.kind];
            most_members_ = std::max(most_members_, send.message.members.size());
            most_versions_ = std::max(most_versions_, send.message.versions.size());
            Membership& to = send.to == left.self().id ? left : right;
            const PeerId from = (&to == &left ? right : left).self().id;
            step(to, Received{from, send.message});
        }
    }
    void step(Membership& core, const Event& event) {
        std::vector<Effect> effects;
        core.step(1'000'000, event, effects);
        for (Effect& effect : effects) {
            if (auto* send = std::get_if<Send>(&effect)) waiting_.push_back(std::move(*send));
        }
    }
    void link(Membership& left, Membership& right) {
        const Member before = right.self();
        step(right, LinkOpened{left.self()});
        step(left, LinkOpened{before});
        talk(left, right);
    }
    /// What it has been told by somebody whom the other never meets.
    void teach(Membership& core, std::uint32_t from, std::uint32_t until,
               std::size_t advert_bytes) {
        for (std::uint32_t number = from; number < until; ++number) {
            Member known = member(number);
            known.advert.assign(advert_bytes, 7);
            known.advert_version = 1;
            step(core, Received{id(9'999), {Kind::kNews, 0, {}, {known}}});
        }
        waiting_.clear();
    }
    static void expect_knows(const Membership& core, std::uint32_t from, std::uint32_t until) {
        for (std::uint32_t number = from; number < until; ++number) {
            const Member* known = core.find(id(number));
            ASSERT_NE(known, nullptr) << number;
            EXPECT_EQ(known->advert_version, 1U);
        }
    }

    MembershipSettings settings_;
    Membership left_{member(10'000), settings_, 1};
    Membership right_{member(10'001), settings_, 2};
    std::deque<Send> waiting_;
    std::map<Kind, int> said_;
    std::size_t most_members_ = 0;
    std::size_t most_versions_ = 0;
};

TEST_F(MembershipSyncTest, ANewcomerLearnsAllInPages) {
    teach(left_, 0, 1'500, kMaxAdvertBytes);
    link(left_, right_);
    expect_knows(right_, 0, 1'500);
    EXPECT_LE(most_members_ * kMaxAdvertBytes, settings_.page_bytes);
    EXPECT_LE(most_versions_, settings_.page_versions);
}

TEST_F(MembershipSyncTest, BothLearnWhatTheOtherKnowsBetter) {
    teach(left_, 0, 800, 10);
    teach(right_, 700, 1'600, 10);
    link(left_, right_);
    expect_knows(left_, 0, 1'600);
    expect_knows(right_, 0, 1'600);
}

TEST_F(MembershipSyncTest, WhoKnowsTheSameSaysSoInOneWord) {
    teach(left_, 0, 900, 10);
    link(left_, right_);
    said_.clear();
    // Again, as after the introducer's death.
    step(right_, LinkClosed{left_.self().id});
    step(right_, LinkOpened{left_.self()});
    talk(left_, right_);
    EXPECT_EQ(said_[Kind::kVersions], 0);
    EXPECT_EQ(said_[Kind::kWant], 0);
}

TEST_F(MembershipSyncTest, ADeathOnOneSideIsToldToTheOther) {
    teach(left_, 0, 3, 10);
    link(left_, right_);
    Member dead = member(1);
    dead.state = MemberState::kDead;
    step(left_, Received{id(9'999), {Kind::kNews, 0, {}, {dead}}});
    waiting_.clear();
    step(left_, Received{right_.self().id, {Kind::kDigest, 0, {}, {}}});
    talk(left_, right_);
    EXPECT_EQ(right_.find(id(1))->state, MemberState::kDead);
}

}  // namespace
}  // namespace ppdsm
