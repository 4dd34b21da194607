// Goal: no schedule of faults leaves the mesh wrong about itself. Method: random kills, power cuts,
// restarts, stalls, cuts, loss and slow processes for a minute of virtual time, then peace;
// invariants are checked during and after.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/sim/membership_mesh.h"
#include "tests/sim/seeds.h"

namespace ppdsm::sim {
namespace {

constexpr TimeUs kLongestPauseUs = 5 * kSecond;

class Schedule {
public:
    explicit Schedule(std::uint64_t seed)
        : random_(SeededRandom::mix(seed)), mesh_(seed, options(random_)) {}

    void run() {
        Simulator& simulator = mesh_.simulator();
        mesh_.start_all(2 * kSecond);
        simulator.run_for(random_.between(0, 5 * kSecond));
        const TimeUs peace_us = simulator.now_us() + random_.between(10 * kSecond, 60 * kSecond);
        while (simulator.now_us() < peace_us) {
            one_fault();
            // Now and then many faults fall together.
            if (random_.chance(0.7)) simulator.run_for(random_.between(0, 4 * kSecond));
        }
        make_peace();
        ASSERT_TRUE(mesh_.settle(60 * kSecond)) << mesh_.describe();
        mesh_.forget_beliefs();
        simulator.run_for(20 * kSecond);
        EXPECT_TRUE(mesh_.agrees()) << mesh_.describe();
        EXPECT_TRUE(mesh_.false_deaths().empty()) << describe(mesh_.beliefs());
        a_death_is_still_noticed();
    }

private:
    static MeshOptions options(SeededRandom& random) {
        MeshOptions options;
        options.hosts = 2 + random.below(random.chance(0.1) ? 30 : 10);
        Path& path = options.network.path;
        path.max_delay_us = random.between(200, random.chance(0.3) ? 60'000 : 2'000);
        if (random.chance(0.3)) path.loss = 0.05;
        if (random.chance(0.3)) path.duplicate = 0.1;
        if (random.chance(0.2)) path.reorder = 0.1;
        return options;
    }

    HostId any() { return static_cast<HostId>(random_.below(mesh_.simulator().host_count())); }

    void one_fault() {
        Simulator& simulator = mesh_.simulator();
        switch (random_.below(9)) {
            case 0: return simulator.kill(any());
            case 1: return simulator.vanish(any());
            case 2:
            case 3: return simulator.start(any());
            case 4: return simulator.pause(any(), random_.between(10'000, kLongestPauseUs));
            case 5: return simulator.cut(any(), any());
            case 6: {
                std::vector<HostId> sides[2];
                for (HostId host = 0; host < simulator.host_count(); ++host) {
                    sides[random_.below(2)].push_back(host);
                }
                return simulator.partition(sides[0], sides[1]);
            }
            case 7: return simulator.heal();
            default: {
                const TimeUs run_us = random_.between(1, 50) * kMillisecond;
                return simulator.set_speed(any(), {run_us, 100 * kMillisecond, 50});
            }
        }
    }

    void make_peace() {
        Simulator& simulator = mesh_.simulator();
        simulator.heal();
        simulator.set_path(Path{});
        for (HostId host = 0; host < simulator.host_count(); ++host) {
            simulator.set_speed(host, {});
            if (random_.chance(0.8)) simulator.start(host);
        }
        simulator.start(0);  // A seed for those who have lost all others.
        simulator.run_for(kLongestPauseUs);
    }

    void a_death_is_still_noticed() {
        Simulator& simulator = mesh_.simulator();
        const HostId victim = any();
        if (!simulator.is_running(victim)) return;
        const std::uint64_t instance = simulator.instance(victim);
        const TimeUs dead_us = simulator.now_us();
        const bool silently = random_.chance(0.5);
        silently ? simulator.vanish(victim) : simulator.kill(victim);
        simulator.run_for(10 * kSecond);
        const auto known_us = mesh_.known_dead_by_all_us(victim, instance);
        ASSERT_TRUE(known_us) << mesh_.describe() << describe(mesh_.beliefs());
        if (*known_us == 0) return;  // Nobody was left to know it.
        EXPECT_LT(*known_us - dead_us, silently ? 2 * kSecond : 100 * kMillisecond)
            << describe(mesh_.beliefs());
    }

    SeededRandom random_;
    MembershipMesh mesh_;
};

TEST(MembershipRandomFaults, LeaveAMeshThatAgreesAndIsRight) {
    const std::uint64_t runs =
        for_seeds_within(10, [](std::uint64_t seed) { Schedule(seed).run(); });
    std::cout << "[  figure  ] " << runs << " random schedules\n";
}

}  // namespace
}  // namespace ppdsm::sim
