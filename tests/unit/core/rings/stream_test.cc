// Goal: each step of a stream's ends and of a move is the one that RINGS.md says, and an end that
// breaks the rules is found out. Method: events by hand. Random schedules are in tests/sim.
#include <gtest/gtest.h>

#include <algorithm>

#include "dsm/core/rings/ring_move.h"
#include "dsm/core/rings/stream_receiver.h"
#include "dsm/core/rings/stream_sender.h"

namespace ppdsm::rings {
namespace {

constexpr std::size_t kBytes = 1000;

Bytes text(std::string_view words) { return {words.begin(), words.end()}; }

RelayFrame message(std::uint32_t epoch, std::uint64_t sequence) {
    return {epoch, sequence, std::nullopt, text("m")};
}
RelayFrame end(std::uint32_t epoch, std::uint64_t sequence, std::uint32_t next_epoch) {
    return {epoch, sequence, next_epoch, {}};
}

template <class Effect, class Effects>
std::vector<Effect> all(const Effects& effects) {
    std::vector<Effect> found;
    for (const auto& effect : effects) {
        if (const auto* one = std::get_if<Effect>(&effect)) found.push_back(*one);
    }
    return found;
}

std::vector<std::uint64_t> delivered(const StreamReceiver::Effects& effects) {
    std::vector<std::uint64_t> sequences;
    for (const auto& one : all<receiver::Deliver>(effects)) sequences.push_back(one.sequence);
    return sequences;
}

using Sequences = std::vector<std::uint64_t>;

TEST(StreamSender, ClosesTheRelayBeforeItUsesARing) {
    StreamSender sender(kBytes);
    sender.step(sender::Submit{text("one")});
    const auto effects = sender.step(sender::OfferRing{});
    ASSERT_EQ(effects.size(), 2U);
    EXPECT_EQ(std::get<sender::OpenRing>(effects[0]).begin, (StreamPosition{2, 2}));
    const RelayFrame frame = std::get<sender::Relay>(effects[1]).frame;
    EXPECT_EQ(frame.epoch, 1U);
    EXPECT_EQ(frame.sequence, 2U);
    EXPECT_EQ(frame.next_epoch, 2U);
    EXPECT_EQ(all<sender::Put>(sender.step(sender::Submit{text("two")})).size(), 1U);
    EXPECT_FALSE(sender.can_submit());
    sender.step(sender::PutDone{});
    EXPECT_EQ(sender.position(), (StreamPosition{2, 3}));
}

TEST(StreamSender, RelaysWhatTheSealKeptOutOfTheRing) {
    StreamSender sender(kBytes);
    sender.step(sender::OfferRing{});
    sender.step(sender::Submit{text("one")});
    sender.step(sender::PutDone{});
    sender.step(sender::Submit{text("two")});
    const auto relayed = all<sender::Relay>(sender.step(sender::PutSealed{3}));
    ASSERT_EQ(relayed.size(), 1U);
    EXPECT_EQ(relayed[0].frame.epoch, 3U);
    EXPECT_EQ(relayed[0].frame.sequence, 2U);
    EXPECT_EQ(relayed[0].frame.message, text("two"));
    EXPECT_FALSE(sender.is_on_ring());
}

TEST(StreamSender, SendsAgainWhatWasNotAcknowledged) {
    StreamSender sender(kBytes);
    for (int i = 0; i < 3; ++i) sender.step(sender::Submit{text("x")});
    sender.step(sender::Acknowledged{{1, 3}});
    const auto relayed = all<sender::Relay>(sender.step(sender::Reconnected{}));
    ASSERT_EQ(relayed.size(), 1U);
    EXPECT_EQ(relayed[0].frame.sequence, 3U);
}

TEST(StreamSender, PushesBackUntilAcknowledged) {
    StreamSender sender(kBytes);
    int sent = 0;
    while (sender.can_submit()) {
        sender.step(sender::Submit{Bytes(100)});
        ASSERT_LT(++sent, 100);
    }
    sender.step(sender::Acknowledged{{1, 3}});
    EXPECT_TRUE(sender.can_submit());
}

TEST(StreamSender, KeepsOneEndAtATimeHoweverOftenARingIsOffered) {
    StreamSender sender(kBytes);
    for (std::uint32_t round = 0; round < 100; ++round) {
        sender.step(sender::OfferRing{});
        if (!sender.can_submit()) break;
        sender.step(sender::Submit{Bytes()});
        if (sender.is_on_ring()) sender.step(sender::PutSealed{sender.position().epoch + 1});
    }
    const auto kept = all<sender::Relay>(sender.step(sender::Reconnected{}));
    EXPECT_EQ(std::count_if(kept.begin(), kept.end(),
                            [](const auto& one) { return one.frame.next_epoch.has_value(); }),
              1);
}

TEST(StreamReceiver, HoldsTheRelayBackUntilItHasReadTheRing) {
    StreamReceiver receiver(kBytes);
    EXPECT_EQ(delivered(receiver.step(receiver::Relayed{message(1, 1)})), Sequences{1});
    const auto opened = receiver.step(receiver::Relayed{end(1, 2, 2)});
    ASSERT_EQ(all<receiver::OpenRing>(opened).size(), 1U);
    EXPECT_EQ(all<receiver::OpenRing>(opened)[0].epoch, 2U);
    // The sender was told of the seal before the receiver got there.
    EXPECT_EQ(delivered(receiver.step(receiver::Relayed{message(3, 3)})), Sequences{});
    EXPECT_EQ(delivered(receiver.step(receiver::RingMessage{2, {}})), Sequences{2});
    EXPECT_EQ(delivered(receiver.step(receiver::RingSealed{{3, 3}})), Sequences{3});
    EXPECT_EQ(receiver.position(), (StreamPosition{3, 4}));
}

TEST(StreamReceiver, DropsWhatItHasAndSaysSo) {
    StreamReceiver receiver(kBytes);
    receiver.step(receiver::Relayed{message(1, 1)});
    const auto effects = receiver.step(receiver::Relayed{message(1, 1)});
    EXPECT_EQ(delivered(effects), Sequences{});
    ASSERT_EQ(all<receiver::Acknowledge>(effects).size(), 1U);
    EXPECT_EQ(all<receiver::Acknowledge>(effects)[0].position, (StreamPosition{1, 2}));
}

/// After these the receiver is on ring 2 and wants message 2.
StreamReceiver on_ring() {
    StreamReceiver receiver(kBytes);
    receiver.step(receiver::Relayed{message(1, 1)});
    receiver.step(receiver::Relayed{end(1, 2, 2)});
    return receiver;
}

TEST(StreamReceiver, NeverTakesARingsMessageFromTheRelay) {
    StreamReceiver receiver = on_ring();
    EXPECT_EQ(delivered(receiver.step(receiver::Relayed{message(2, 2)})), Sequences{});
    EXPECT_EQ(receiver.position(), (StreamPosition{2, 2}));
}

TEST(StreamReceiver, BreaksOffWithOneWhoBreaksTheRules) {
    const receiver::Event wrong[] = {
        receiver::RingMessage{3, {}},
        receiver::RingMessage{1, {}},
        receiver::RingSealed{{3, 3}},
        receiver::RingSealed{{2, 2}},
    };
    for (const receiver::Event& event : wrong) {
        StreamReceiver receiver = on_ring();
        EXPECT_EQ(all<receiver::Broken>(receiver.step(event)).size(), 1U) << event.index();
        EXPECT_TRUE(receiver.step(receiver::RingMessage{2, {}}).empty());
    }
    StreamReceiver on_relay(kBytes);
    EXPECT_EQ(all<receiver::Broken>(on_relay.step(receiver::RingMessage{1, {}})).size(), 1U);
    StreamReceiver backwards(kBytes);
    EXPECT_EQ(all<receiver::Broken>(backwards.step(receiver::Relayed{end(1, 1, 1)})).size(), 1U);
}

TEST(StreamReceiver, HoldsNoMoreThanItsShare) {
    StreamReceiver receiver(kBytes);
    bool is_broken = false;
    for (std::uint64_t sequence = 2; sequence < 100 && !is_broken; ++sequence) {
        is_broken =
            !all<receiver::Broken>(receiver.step(receiver::Relayed{message(1, sequence)})).empty();
    }
    EXPECT_TRUE(is_broken);
}

const move::Resume* resumes(const RingMove::Effects& effects) {
    return effects.empty() ? nullptr : std::get_if<move::Resume>(&effects.back());
}

TEST(RingMove, CutsWhenEveryRingIsSealed) {
    RingMove move({RingId{1}, RingId{2}});
    EXPECT_EQ(all<move::Freeze>(move.begin()).size(), 1U);
    EXPECT_EQ(all<move::SealRing>(move.step(move::Frozen{})).size(), 2U);
    EXPECT_TRUE(move.step(move::Sealed{RingId{2}}).empty());
    EXPECT_TRUE(move.step(move::Sealed{RingId{2}}).empty());
    EXPECT_EQ(all<move::Cut>(move.step(move::Sealed{RingId{1}})).size(), 1U);
    EXPECT_EQ(all<move::Commit>(move.step(move::CutDone{})).size(), 1U);
    EXPECT_EQ(resumes(move.step(move::Committed{}))->at, Place::kTarget);
    EXPECT_TRUE(move.is_over());
}

TEST(RingMove, ResumesWhereTheLogSays) {
    RingMove move({});
    static_cast<void>(move.begin());
    EXPECT_EQ(all<move::Cut>(move.step(move::Frozen{})).size(), 1U);
    move.step(move::CutDone{});
    // The record may be there already: only the log's answer counts now.
    EXPECT_TRUE(move.step(move::Failed{}).empty());
    EXPECT_EQ(resumes(move.step(move::Refused{}))->at, Place::kSource);
    EXPECT_TRUE(move.step(move::Committed{}).empty());
}

TEST(RingMove, ResumesAtTheSourceWhenItFailsBefore) {
    RingMove move({RingId{1}});
    static_cast<void>(move.begin());
    move.step(move::Frozen{});
    EXPECT_EQ(resumes(move.step(move::Failed{}))->at, Place::kSource);
    EXPECT_TRUE(move.step(move::Sealed{RingId{1}}).empty());
}

}  // namespace
}  // namespace ppdsm::rings
