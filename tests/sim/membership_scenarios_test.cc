// Goal: what the membership promises, in a network that delays, loses, cuts and stalls. Method: the
// real core in every process of a simulated mesh; what each peer believes is compared with what is
// true. Figures are of virtual time.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/sim/membership_mesh.h"
#include "tests/sim/seeds.h"

namespace ppdsm::sim {
namespace {

using Sizes = std::vector<std::size_t>;
using Hosts = std::vector<HostId>;

NetworkRules lan() { return {}; }
NetworkRules wan() {
    NetworkRules rules;
    rules.path = {10 * kMillisecond, 40 * kMillisecond, 0, 0, 0};
    return rules;
}

MeshOptions mesh_of(std::size_t hosts, const NetworkRules& network = lan()) {
    MeshOptions options;
    options.hosts = hosts;
    options.network = network;
    return options;
}

/// The greatest of several runs, for the record.
struct Worst {
    explicit Worst(std::string title) : title_(std::move(title)) {}
    Worst(const Worst&) = delete;
    Worst& operator=(const Worst&) = delete;
    ~Worst() {
        std::cout << "[  figure  ] " << title_ << ": worst " << worst_us_ / 1000 << " ms of "
                  << runs_ << " runs\n"
                  << std::flush;
    }
    void add(TimeUs time_us) {
        worst_us_ = std::max(worst_us_, time_us);
        ++runs_;
    }

private:
    std::string title_;
    TimeUs worst_us_ = 0;
    int runs_ = 0;
};

/// A settled mesh, with nothing believed yet.
void begin(MembershipMesh& mesh) {
    mesh.start_all();
    ASSERT_TRUE(mesh.settle(60 * kSecond)) << mesh.describe();
    mesh.simulator().run_for(mesh.simulator().random().between(2 * kSecond, 3 * kSecond));
    ASSERT_TRUE(mesh.settle(10 * kSecond)) << mesh.describe();
    EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths());
    mesh.forget_beliefs();
}

TEST(MembershipSim, ThreePeersFindEachOther) {
    Worst worst("3 peers know each other");
    for_seeds(20, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(3));
        const TimeUs begun_us = mesh.simulator().now_us();
        mesh.start_all();
        ASSERT_TRUE(mesh.settle(10 * kSecond)) << mesh.describe();
        worst.add(mesh.simulator().now_us() - begun_us);
    });
}

TEST(MembershipSim, AHundredPeersFindEachOther) {
    Worst worst("100 peers know each other");
    for_seeds(1, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(100));
        const TimeUs begun_us = mesh.simulator().now_us();
        mesh.start_all(1 * kSecond);
        mesh.simulator().run_for(1 * kSecond);
        ASSERT_TRUE(mesh.settle(60 * kSecond));
        worst.add(mesh.simulator().now_us() - begun_us);
        EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths());
    });
}

TEST(MembershipSim, AThousandPeersFindEachOtherAndLoseOne) {
    constexpr std::size_t kHosts = 1000;
    Worst together("1,000 peers know each other");
    Worst killed("killed process of 1,000 known to all");
    Worst silent("silent host of 1,000 known to all");
    for_seeds(1, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(kHosts));
        mesh.simulator().start(0);
        mesh.start_all(1 * kSecond);
        ASSERT_TRUE(mesh.settle(60 * kSecond));
        together.add(mesh.simulator().now_us());
        mesh.simulator().run_for(2 * kSecond);
        const auto known_after = [&](HostId victim, const std::function<void()>& harm) {
            mesh.forget_beliefs();
            const std::uint64_t instance = mesh.simulator().instance(victim);
            const TimeUs harmed_us = mesh.simulator().now_us();
            harm();
            mesh.simulator().run_for(3 * kSecond);
            const auto known_us = mesh.known_dead_by_all_us(victim, instance);
            EXPECT_TRUE(known_us) << "somebody does not know it after three seconds";
            EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths());
            return known_us.value_or(kNever) - harmed_us;
        };
        const TimeUs killed_us = known_after(500, [&] { mesh.simulator().kill(500); });
        EXPECT_LT(killed_us, 100 * kMillisecond);
        killed.add(killed_us);
        const TimeUs silent_us = known_after(77, [&] { mesh.simulator().vanish(77); });
        EXPECT_LT(silent_us, 2 * kSecond);
        silent.add(silent_us);
    });
}

void kill_one(std::size_t hosts, const NetworkRules& network, Worst& worst) {
    for_seeds(hosts < 50 ? 20 : 2, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(hosts, network));
        begin(mesh);
        const auto victim = static_cast<HostId>(mesh.simulator().random().below(hosts));
        const std::uint64_t instance = mesh.simulator().instance(victim);
        const TimeUs killed_us = mesh.simulator().now_us();
        mesh.simulator().kill(victim);
        mesh.simulator().run_for(5 * kSecond);
        const auto known_us = mesh.known_dead_by_all_us(victim, instance);
        ASSERT_TRUE(known_us) << mesh.describe();
        EXPECT_LT(*known_us - killed_us, 100 * kMillisecond) << describe(mesh.beliefs());
        EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths());
        worst.add(*known_us - killed_us);
    });
}

TEST(MembershipSim, AKilledProcessIsKnownToAllWithin100Ms) {
    for (const std::size_t hosts : Sizes{2, 3, 8, 64}) {
        Worst worst("killed process of " + std::to_string(hosts) + " known to all");
        kill_one(hosts, lan(), worst);
    }
}

void silence_one(std::size_t hosts, const NetworkRules& network, Worst& worst) {
    for_seeds(hosts < 50 ? 30 : 2, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(hosts, network));
        begin(mesh);
        const auto victim = static_cast<HostId>(mesh.simulator().random().below(hosts));
        const std::uint64_t instance = mesh.simulator().instance(victim);
        const TimeUs silent_us = mesh.simulator().now_us();
        mesh.simulator().vanish(victim);
        mesh.simulator().run_for(8 * kSecond);
        const auto known_us = mesh.known_dead_by_all_us(victim, instance);
        ASSERT_TRUE(known_us) << mesh.describe();
        EXPECT_LT(*known_us - silent_us, 2 * kSecond) << describe(mesh.beliefs());
        EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths());
        worst.add(*known_us - silent_us);
    });
}

TEST(MembershipSim, ASilentHostIsKnownToAllWithin2S) {
    for (const std::size_t hosts : Sizes{2, 3, 4, 8, 64}) {
        Worst worst("silent host of " + std::to_string(hosts) + " known to all");
        silence_one(hosts, lan(), worst);
    }
}

TEST(MembershipSim, ASilentHostIsKnownWithin2SOnAPathOf40Ms) {
    Worst worst("silent host of 8, 10 to 40 ms apart, known to all");
    silence_one(8, wan(), worst);
}

// "Get 5 % of a core": in slices of 5 ms in every 100 ms.
void starve_one(std::size_t hosts, std::uint64_t seeds, TimeUs event_cost_us) {
    for_seeds(seeds, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(hosts));
        begin(mesh);
        mesh.simulator().set_speed(1, {5 * kMillisecond, 100 * kMillisecond, event_cost_us});
        mesh.simulator().run_for(60 * kSecond);
        EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths()) << "of\n"
                                                 << describe(mesh.beliefs());
        EXPECT_TRUE(mesh.agrees()) << mesh.describe();
    });
}

TEST(MembershipSim, APeerWithATwentiethOfACoreIsNotDeclaredDead) {
    for (const std::size_t hosts : Sizes{2, 3, 8}) starve_one(hosts, 5, 200);
    starve_one(64, 1, 200);
}

TEST(MembershipSim, APeerThatStallsForASecondIsNotDeclaredDead) {
    for (const std::size_t hosts : Sizes{2, 3, 8, 64}) {
        for_seeds(hosts < 50 ? 5 : 1, [&](std::uint64_t seed) {
            MembershipMesh mesh(seed, mesh_of(hosts));
            begin(mesh);
            SeededRandom& random = mesh.simulator().random();
            for (int stall = 0; stall < 20; ++stall) {
                mesh.simulator().pause(1, random.between(500 * kMillisecond, 1 * kSecond));
                mesh.simulator().run_for(random.between(1600 * kMillisecond, 4 * kSecond));
            }
            EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths()) << "of\n"
                                                     << describe(mesh.beliefs());
        });
    }
}

TEST(MembershipSim, AMachineWhereAllPeersStarveDeclaresNobodyDead) {
    for_seeds(5, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(5));
        begin(mesh);
        for (HostId host = 0; host < 5; ++host) {
            mesh.simulator().set_speed(host, {10 * kMillisecond, 100 * kMillisecond, 200});
        }
        mesh.simulator().run_for(60 * kSecond);
        EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths()) << "of\n"
                                                 << describe(mesh.beliefs());
        EXPECT_TRUE(mesh.agrees()) << mesh.describe();
    });
}

TEST(MembershipSim, TwoWhoseLinkIsCutAndWhoReachAThirdStayAlive) {
    for_seeds(10, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(3));
        begin(mesh);
        mesh.simulator().cut_both(1, 2);
        mesh.simulator().run_for(60 * kSecond);
        EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths()) << "of\n"
                                                 << describe(mesh.beliefs());
        mesh.simulator().heal();
        EXPECT_TRUE(mesh.settle(20 * kSecond)) << mesh.describe();
    });
}

TEST(MembershipSim, TwoSidesOfAPartitionGiveEachOtherUpAndAgreeAfterItHeals) {
    Worst worst("partition of 8 healed: both sides agree");
    for (const TimeUs cut_us : {5 * kSecond, 30 * kSecond, 200 * kSecond}) {
        for_seeds(5, [&](std::uint64_t seed) {
            MembershipMesh mesh(seed, mesh_of(8));
            begin(mesh);
            mesh.simulator().partition({0, 1, 2}, {3, 4, 5, 6, 7});
            mesh.simulator().run_for(cut_us);
            for (const HostId left : Hosts{0, 1, 2}) {
                for (const HostId right : Hosts{3, 4, 5, 6, 7}) {
                    EXPECT_EQ(mesh.core(left).find(peer_of(right))->state, MemberState::kDead)
                        << mesh.describe();
                    EXPECT_EQ(mesh.core(right).find(peer_of(left))->state, MemberState::kDead);
                }
                for (const HostId other : Hosts{0, 1, 2}) {
                    EXPECT_TRUE(left == other ||
                                mesh.core(left).find(peer_of(other))->state != MemberState::kDead)
                        << mesh.describe();
                }
            }
            mesh.forget_beliefs();
            const TimeUs healed_us = mesh.simulator().now_us();
            mesh.simulator().heal();
            ASSERT_TRUE(mesh.settle(30 * kSecond)) << mesh.describe();
            worst.add(mesh.simulator().now_us() - healed_us);
            // Those who never lost sight of each other do not give each other up over it.
            for (const Belief& belief : mesh.false_deaths()) {
                EXPECT_NE(belief.observer < 3, belief.subject < 3) << describe({belief});
            }
        });
    }
}

TEST(MembershipSim, LossOfATenthOfTheSegmentsHarmsNobody) {
    for (const double loss : {0.05, 0.1}) {
        for_seeds(5, [&](std::uint64_t seed) {
            MeshOptions options = mesh_of(8);
            options.network.path.loss = loss;
            MembershipMesh mesh(seed, options);
            begin(mesh);
            mesh.simulator().run_for(60 * kSecond);
            EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths()) << "of\n"
                                                     << describe(mesh.beliefs());
        });
    }
}

TEST(MembershipSim, MessagesThatComeTwiceOrOutOfOrderHarmNobody) {
    for_seeds(10, [&](std::uint64_t seed) {
        MeshOptions options = mesh_of(8);
        options.network.path = {100, 5 * kMillisecond, 0.02, 0.2, 0.2};
        MembershipMesh mesh(seed, options);
        begin(mesh);
        mesh.simulator().kill(3);
        mesh.simulator().run_for(5 * kSecond);
        mesh.simulator().start(3);
        ASSERT_TRUE(mesh.settle(20 * kSecond)) << mesh.describe();
        mesh.simulator().run_for(20 * kSecond);
        EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths()) << "of\n"
                                                 << describe(mesh.beliefs());
        EXPECT_TRUE(mesh.agrees()) << mesh.describe();
    });
}

TEST(MembershipSim, ARollingRestartLeavesOnlyNewInstances) {
    for_seeds(10, [&](std::uint64_t seed) {
        MembershipMesh mesh(seed, mesh_of(8));
        begin(mesh);
        for (HostId host = 0; host < 8; ++host) {
            const std::uint64_t before = mesh.simulator().instance(host);
            mesh.simulator().kill(host);
            mesh.simulator().run_for(mesh.simulator().random().between(0, 300 * kMillisecond));
            mesh.simulator().start(host);
            ASSERT_TRUE(mesh.settle(5 * kSecond)) << mesh.describe();
            ASSERT_NE(mesh.simulator().instance(host), before);
            for (HostId other = 0; other < 8; ++other) {
                if (other == host) continue;
                const Member* member = mesh.core(other).find(peer_of(host));
                ASSERT_NE(member, nullptr);
                EXPECT_EQ(member->instance, mesh.simulator().instance(host));
            }
            EXPECT_TRUE(mesh.known_dead_by_all_us(host, before)) << describe(mesh.beliefs());
        }
        EXPECT_TRUE(mesh.false_deaths().empty()) << describe(mesh.false_deaths()) << "of\n"
                                                 << describe(mesh.beliefs());
    });
}

}  // namespace
}  // namespace ppdsm::sim
