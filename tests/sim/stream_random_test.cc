// Goal: whoever moves, dies or is cut off, the receiver's program gets every message once and in
// order, and nobody waits for ever. Method: random schedules of a stream with faults (StreamWorld),
// the numbers checked as they are delivered; then peace, in which what is left must arrive.
#include <gtest/gtest.h>

#include "tests/sim/seeds.h"
#include "tests/sim/stream_world.h"

namespace ppdsm::sim {
namespace {

constexpr std::uint64_t kWorlds = 2000;
constexpr std::uint64_t kMessages = 200;
constexpr int kStepsWithFaults = 3000;
constexpr int kStepsOfPeace = 50'000;

TEST(StreamRandom, DeliversEverythingOnceAndInOrder) {
    StreamCounts total;
    std::uint64_t worlds = 0;
    for_seeds(kWorlds, [&](std::uint64_t seed) {
        ++worlds;
        StreamWorld world(seed, kMessages);
        for (int step = 0; step < kStepsWithFaults && world.wrong().empty(); ++step) {
            world.step(true);
        }
        for (int step = 0; step < kStepsOfPeace && world.wrong().empty(); ++step) {
            if (world.is_complete()) break;
            world.step(false);
        }
        ASSERT_EQ(world.wrong(), "");
        ASSERT_TRUE(world.is_complete()) << world.describe();
        total.by_ring += world.counts().by_ring;
        total.by_relay += world.counts().by_relay;
        total.moves += world.counts().moves;
        total.failed_moves += world.counts().failed_moves;
        total.mover_deaths += world.counts().mover_deaths;
        total.roll_backs += world.counts().roll_backs;
        total.broken_links += world.counts().broken_links;
    });
    if (HasFailure() || worlds < kWorlds) return;
    // Each of these ways was gone often.
    EXPECT_GT(total.by_ring, 10 * kWorlds);
    EXPECT_GT(total.by_relay, 10 * kWorlds);
    for (const std::uint64_t count : {total.moves, total.failed_moves, total.mover_deaths,
                                      total.roll_backs, total.broken_links}) {
        EXPECT_GT(count, kWorlds);
    }
}

}  // namespace
}  // namespace ppdsm::sim
