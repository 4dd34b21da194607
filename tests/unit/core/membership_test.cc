// Goal: each rule of the membership holds for one peer. Method: events in, effects out, time given.
#include "runtime/core/membership.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ppdsm {
namespace {

using namespace membership;

PeerId id(std::uint8_t first) {
    PeerId peer;
    peer.bytes[0] = first;
    return peer;
}

Member member(std::uint8_t first, std::uint64_t instance = 1) {
    Member m;
    m.id = id(first);
    m.instance = instance;
    m.name = std::string(1, static_cast<char>('a' + first));
    m.addresses = {"10.0.0." + std::to_string(first) + ":1"};
    return m;
}

class MembershipTest : public testing::Test {
protected:
    MembershipTest() : core_(member(0), MembershipSettings{}, 7) {}

    std::vector<Effect> step(const Event& event) {
        std::vector<Effect> effects;
        core_.step(now_us_, event, effects);
        return effects;
    }
    /// Lets the core's own timers run.
    std::vector<Effect> run(std::int64_t duration_us) {
        std::vector<Effect> all;
        const std::int64_t end_us = now_us_ + duration_us;
        while (core_.next_tick_us() <= end_us) {
            now_us_ = core_.next_tick_us();
            for (Effect& effect : step(Tick{})) all.push_back(std::move(effect));
        }
        now_us_ = end_us;
        return all;
    }
    MemberState state(std::uint8_t first) { return core_.find(id(first))->state; }
    template <typename Wanted>
    static std::size_t count(const std::vector<Effect>& effects,
                             const std::function<bool(const Wanted&)>& matches) {
        return static_cast<std::size_t>(
            std::count_if(effects.begin(), effects.end(), [&](const Effect& effect) {
                const auto* wanted = std::get_if<Wanted>(&effect);
                return wanted != nullptr && matches(*wanted);
            }));
    }

    std::int64_t now_us_ = 1'000'000;
    Membership core_;
};

TEST_F(MembershipTest, AHomeOfAnEarlierDayIsListenedToAgain) {
    step(LinkOpened{member(1)});
    Member later = member(0, 9);
    later.state = MemberState::kDead;
    const auto effects = step(Received{id(1), {GossipMessage::Kind::kNews, 0, {}, {later}}});
    EXPECT_EQ(core_.self().instance, 10U);
    EXPECT_EQ(count<Send>(effects,
                          [](const Send& send) {
                              return send.to == id(1) &&
                                     send.message.members.front().instance == 10;
                          }),
              1U);
    // While the other one runs there are two: no contest.
    later.state = MemberState::kAlive;
    later.instance = 20;
    step(Received{id(1), {GossipMessage::Kind::kNews, 0, {}, {later}}});
    EXPECT_EQ(core_.self().instance, 10U);
}

TEST_F(MembershipTest, AnEarlierDaemonOfAKeyIsAMemberAgainWhenItsCopyIsGone) {
    Membership original(member(1), MembershipSettings{}, 8);
    (void)step(LinkOpened{member(1, 2)});  // The copy of its home; the original is refused.
    (void)step(LinkClosed{id(1)});
    std::vector<Effect> ours = step(LinkOpened{original.self()});
    std::vector<Effect> theirs;
    original.step(now_us_, LinkOpened{core_.self()}, theirs);
    // What each says reaches the other.
    for (int round = 0; round < 4; ++round) {
        std::vector<Effect> next;
        for (const Effect& effect : std::exchange(ours, {})) {
            const auto* out = std::get_if<Send>(&effect);
            if (out == nullptr || out->to != id(1)) continue;
            original.step(now_us_, Received{id(0), out->message}, next);
        }
        for (const Effect& effect : std::exchange(theirs, std::move(next))) {
            const auto* out = std::get_if<Send>(&effect);
            if (out == nullptr) continue;
            for (Effect& each : step(Received{id(1), out->message}))
                ours.push_back(std::move(each));
        }
    }
    EXPECT_GT(original.self().instance, 2U);
    EXPECT_EQ(core_.find(id(1))->instance, original.self().instance);
    EXPECT_EQ(state(1), MemberState::kAlive);
}

TEST_F(MembershipTest, AProcessThatIsGoneIsDeadAtOnceAndAllAreTold) {
    step(LinkOpened{member(1)});
    step(LinkOpened{member(2)});
    step(LinkClosed{id(1)});
    EXPECT_EQ(state(1), MemberState::kAlive);
    const auto effects = step(ConnectRefused{id(1)});
    EXPECT_EQ(state(1), MemberState::kDead);
    EXPECT_EQ(count<Send>(effects,
                          [](const Send& send) {
                              return send.to == id(2) &&
                                     send.message.members.front().state == MemberState::kDead;
                          }),
              1U);
}

TEST_F(MembershipTest, ASilentPeerIsSuspectedThenDeadWithinTwoSeconds) {
    step(LinkOpened{member(1)});
    run(2'000'000);
    EXPECT_EQ(state(1), MemberState::kDead);
}

TEST_F(MembershipTest, WhoDidNotRunHimselfAccusesNobody) {
    step(LinkOpened{member(1)});
    std::vector<Effect> effects = run(300'000);
    const auto is_ping = [](const Send& send) {
        return send.message.kind == GossipMessage::Kind::kPing;
    };
    ASSERT_EQ(count<Send>(effects, is_ping), 1U);
    // Stalled: the answer has come long ago, and is read only after the timer.
    now_us_ += 5'000'000;
    step(Tick{});
    EXPECT_EQ(state(1), MemberState::kAlive);
}

TEST_F(MembershipTest, APeerThatAnswersLivesOn) {
    step(LinkOpened{member(1)});
    for (int i = 0; i < 100; ++i) {
        for (const Effect& effect : run(100'000)) {
            const auto* sent = std::get_if<Send>(&effect);
            if (sent == nullptr || sent->message.kind != GossipMessage::Kind::kPing) continue;
            step(Received{id(1), {GossipMessage::Kind::kAck, sent->message.sequence, {}, {}}});
        }
    }
    EXPECT_EQ(state(1), MemberState::kAlive);
}

TEST_F(MembershipTest, WhatIsSaidOfUsIsRefuted) {
    step(LinkOpened{member(1)});
    Member rumour = member(0);
    rumour.state = MemberState::kSuspect;
    const auto effects = step(Received{id(1), {GossipMessage::Kind::kNews, 0, {}, {rumour}}});
    EXPECT_EQ(core_.self().incarnation, 1U);
    EXPECT_EQ(count<Send>(effects,
                          [](const Send& send) {
                              return send.message.members.front().id == id(0) &&
                                     send.message.members.front().incarnation == 1;
                          }),
              1U);
}

TEST_F(MembershipTest, ALaterIncarnationBringsTheDeadBackAnEarlierDoesNot) {
    step(LinkOpened{member(1)});
    step(LinkOpened{member(2)});
    step(LinkClosed{id(1)});
    step(ConnectRefused{id(1)});
    Member said = member(1);
    step(Received{id(2), {GossipMessage::Kind::kNews, 0, {}, {said}}});
    EXPECT_EQ(state(1), MemberState::kDead);
    said.incarnation = 1;
    step(Received{id(2), {GossipMessage::Kind::kNews, 0, {}, {said}}});
    EXPECT_EQ(state(1), MemberState::kAlive);
}

TEST_F(MembershipTest, AnotherStartOfAPeerIsTheDeathOfTheOneBefore) {
    step(LinkOpened{member(1)});
    const auto effects = step(LinkOpened{member(1, 2)});
    EXPECT_EQ(count<Changed>(effects,
                             [](const Changed& changed) {
                                 return changed.member.state == MemberState::kDead &&
                                        changed.member.instance == 1;
                             }),
              1U);
    EXPECT_EQ(state(1), MemberState::kAlive);
    EXPECT_EQ(core_.find(id(1))->instance, 2U);
}

TEST_F(MembershipTest, TheDeadAreCalledAgain) {
    step(LinkOpened{member(1)});
    step(LinkClosed{id(1)});
    step(ConnectRefused{id(1)});
    EXPECT_GT(count<Connect>(run(10'000'000),
                             [](const Connect& connect) { return connect.peer == id(1); }),
              1U);
}

}  // namespace
}  // namespace ppdsm
