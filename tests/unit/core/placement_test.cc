// Goal: programs are placed where they run fastest among the peers that can run them, every refusal
// says why, and nothing moves without gain. Method: the pure functions on hand-made meshes.
#include "runtime/core/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace ppdsm::placement {
namespace {

PeerId peer(std::uint8_t number) {
    PeerId id;
    id.bytes[0] = number;
    return id;
}

Candidate candidate(std::uint8_t number, double speed) {
    Candidate made;
    made.peer = peer(number);
    made.name = "p" + std::to_string(number);
    made.is_reachable = true;
    made.speed = speed;
    made.cores = 2;
    made.memory_bytes = made.room_bytes = std::uint64_t{8} << 30;
    made.cpu = {"x86_64", {"avx", "sse2"}};
    made.can_checkpoint = true;
    return made;
}

std::string reason(const Ranking& ranking, std::uint8_t number) {
    for (const Refusal& refusal : ranking.refusals) {
        if (refusal.peer == peer(number)) return refusal.why;
    }
    return "";
}

TEST(Placement, PrefersSpeedThatIsFree) {
    std::vector<Candidate> peers = {candidate(1, 100), candidate(2, 150), candidate(3, 400)};
    peers[2].hosted = 15;  // Sixteen programs on two cores: an eighth of 400 for each.
    EXPECT_EQ(rank({}, peers).best_first, (std::vector{peer(2), peer(1), peer(3)}));
    peers[1].load = 7;
    EXPECT_EQ(rank({}, peers).best_first.front(), peer(1));
}

TEST(Placement, CountsWhatIsOnItsWayThere) {
    std::vector<Candidate> peers = {candidate(1, 100), candidate(2, 100), candidate(3, 100)};
    // All are as busy, and none shows in its load what was sent there a moment ago.
    for (Candidate& each : peers) each.load = 3;
    std::map<PeerId, int> placed;
    for (int i = 0; i < 6; ++i) {
        const PeerId best = rank({}, peers).best_first.front();
        ++placed[best];
        for (Candidate& each : peers) each.arriving += each.peer == best ? 1 : 0;
    }
    EXPECT_EQ(placed, (std::map<PeerId, int>{{peer(1), 2}, {peer(2), 2}, {peer(3), 2}}));
    // What it hosts it knows of: nothing is counted twice.
    Candidate idle = candidate(4, 100);
    idle.hosted = idle.arriving = 1;
    EXPECT_EQ(share(idle, true), 100);
}

TEST(Placement, StartsWhereItCanLeaveFrom) {
    std::vector<Candidate> peers = {candidate(1, 100), candidate(2, 110), candidate(3, 100)};
    peers[1].cpu.features = {"avx", "avx512f", "sse2"};  // What starts there can go nowhere.
    EXPECT_EQ(rank({}, peers).best_first.back(), peer(2));
    Request unprotected;
    unprotected.wants_checkpoints = false;
    EXPECT_EQ(rank(unprotected, peers).best_first.front(), peer(2));
}

TEST(Placement, RestoresOnlyOntoASuperset) {
    std::vector<Candidate> peers = {candidate(1, 900), candidate(2, 900), candidate(3, 900),
                                    candidate(4, 10)};
    const Cpu made_on{"x86_64", {"avx", "avx512f", "sse2"}};
    peers[1].cpu.machine = "aarch64";
    peers[2].can_checkpoint = false;
    peers[3].cpu.features = {"amx", "avx", "avx512f", "sse2"};
    Request request;
    request.made_on = &made_on;
    request.needs_checkpoints = true;
    const Ranking ranking = rank(request, peers);
    EXPECT_EQ(ranking.best_first, std::vector{peer(4)});
    EXPECT_EQ(reason(ranking, 1), "its CPU lacks avx512f");
    EXPECT_EQ(reason(ranking, 2), "its CPU is aarch64, the program's checkpoint is of x86_64");
    EXPECT_EQ(reason(ranking, 3), "it has no CRIU that works");
}

TEST(Placement, GoesOnWhereTheCheckpointLies) {
    Request request;
    request.holders = {peer(1)};
    EXPECT_EQ(rank(request, {candidate(1, 10), candidate(2, 500)}).best_first.front(), peer(1));
}

TEST(Placement, SaysOfEachPeerWhyNot) {
    std::vector<Candidate> peers;
    for (std::uint8_t number = 1; number <= 5; ++number) peers.push_back(candidate(number, 1));
    peers[0].is_reachable = false;
    peers[1].is_drained = true;
    peers[2].is_yielding = true;
    peers[3].uid = 1000;
    peers[4].room_bytes = 1;
    Request request;
    request.memory_bytes = 2;
    EXPECT_EQ(rank(request, peers).explain(),
              "p1: no link to it; p2: drained by its owner; p3: its owner uses it; "
              "p4: its daemon cannot run programs of user 0; p5: it has not enough free memory");
    request.only = peer(2);
    EXPECT_EQ(rank(request, peers).explain(), "p2: drained by its owner");
    EXPECT_EQ(rank(request, {}).explain(), "no peer is alive that could have it");
}

TEST(Placement, ReplicasAreTheDeployerAndThoseThatCouldGoOn) {
    std::vector<Candidate> peers = {candidate(1, 1), candidate(2, 1), candidate(3, 1),
                                    candidate(4, 1), candidate(5, 1)};
    peers[1].cpu.features = {"sse2"};
    peers[1].memory_bytes = std::uint64_t{64} << 30;
    peers[2].memory_bytes = std::uint64_t{16} << 30;
    peers[3].is_drained = true;
    peers[4].is_drained = true;  // The deployer decides what is true, whatever its owner wants.
    ReplicaRequest request{peer(1), peer(5), 2, {}, {}};
    EXPECT_EQ(choose_replicas(request, peers), (std::vector{peer(5), peer(3)}));
    request.count = 9;
    EXPECT_EQ(choose_replicas(request, peers), (std::vector{peer(5), peer(3), peer(2)}));
    request.deployer = peer(1);
    EXPECT_TRUE(choose_replicas(request, {candidate(1, 1)}).empty());
}

TEST(Placement, AReplicaStaysOneUnlessItCannotKeepTheGeneration) {
    std::vector<Candidate> peers = {candidate(1, 1), candidate(2, 1), candidate(3, 1)};
    peers[1].memory_bytes = std::uint64_t{64} << 30;
    ReplicaRequest request{peer(1), peer(1), 1, {}, {}};
    EXPECT_EQ(choose_replicas(request, peers), std::vector{peer(2)});
    request.holders = {peer(1), peer(3)};
    EXPECT_EQ(choose_replicas(request, peers), std::vector{peer(3)});
    request.excluded = {peer(3)};
    EXPECT_EQ(choose_replicas(request, peers), std::vector{peer(2)});
}

TEST(Placement, OneSelfIsNoneOfTheOthers) {
    Candidate here = candidate(1, 100);
    here.hosted = 2;
    EXPECT_DOUBLE_EQ(share(here, true), 100);
    EXPECT_LT(share(here, false), 100);
}

TEST(Hysteresis, MovesOnlyForALastingGain) {
    Hysteresis hysteresis;
    for (std::uint32_t i = 1; i < kSteadyLooks; ++i) EXPECT_FALSE(hysteresis.look(peer(1), 2.0));
    EXPECT_FALSE(hysteresis.look(peer(1), 1.2)) << "the gain has gone";
    for (std::uint32_t i = 1; i < kSteadyLooks; ++i) EXPECT_FALSE(hysteresis.look(peer(1), 2.0));
    EXPECT_FALSE(hysteresis.look(peer(2), 2.0)) << "another one is best";
    for (std::uint32_t i = 2; i < kSteadyLooks; ++i) EXPECT_FALSE(hysteresis.look(peer(2), 2.0));
    EXPECT_TRUE(hysteresis.look(peer(2), 2.0));
    EXPECT_FALSE(hysteresis.look(peer(2), 2.0)) << "each move needs its own reasons";
}

TEST(OwnerWatch, LeavesSoonAndComesBackLate) {
    OwnerWatch watch(0.5);
    EXPECT_FALSE(watch.look(0.9));
    EXPECT_FALSE(watch.look(0.1));
    EXPECT_FALSE(watch.look(0.9));
    EXPECT_TRUE(watch.look(0.9));
    EXPECT_TRUE(watch.look(0.3)) << "less than what it took to leave is still use";
    int quiet = 1;
    while (watch.look(0.0)) ++quiet;
    EXPECT_GE(quiet, 10);
    EXPECT_FALSE(OwnerWatch(0).look(100));
}

}  // namespace
}  // namespace ppdsm::placement
