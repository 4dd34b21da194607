// Pi by Monte Carlo: a farm. Virtual threads count hits among points of their own; their results
// are added up. The points are numbered, so it does not matter how many virtual threads there are,
// nor where they run.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <string>
#include <vector>

#include "kernels/common/command.h"
#include "kernels/pi/points.h"
#include "ppdsm/ppdsm.h"

namespace kernels {
namespace {

struct PiFlags : CommonFlags {
    std::uint64_t tasks = 16;
};

std::uint64_t count_on_mesh(const PiFlags& flags) {
    ppdsm::VirtualComputer computer({.workers = flags.workers});
    std::vector<ppdsm::VirtualThread<std::uint64_t>> tasks;
    const std::uint64_t share = (flags.size + flags.tasks - 1) / flags.tasks;
    for (std::uint64_t first = 0; first < flags.size; first += share) {
        const std::uint64_t count = std::min(share, flags.size - first);
        tasks.push_back(computer.spawn(count_in_circle, flags.seed, first, count));
    }
    std::uint64_t hits = 0;
    for (const std::uint64_t in_task : ppdsm::when_all(tasks)) hits += in_task;
    return hits;
}

void check(const PiFlags& flags, std::uint64_t hits, double estimate) {
    const std::uint64_t alone = count_in_circle(flags.seed, 0, flags.size);
    expect(hits == alone, "one thread counts " + std::to_string(alone) + " hits, the mesh " +
                              std::to_string(hits));
    using std::numbers::pi;
    const double deviation = std::sqrt(pi * (4 - pi) / static_cast<double>(flags.size));
    expect(std::abs(estimate - pi) < 6 * deviation,
           "six standard deviations off: " + std::to_string(estimate));
}

void solve(const PiFlags& flags) {
    const std::uint64_t hits = count_on_mesh(flags);
    const double estimate = 4 * static_cast<double>(hits) / static_cast<double>(flags.size);
    std::printf("pi is about %.9f: %llu of %llu points\n", estimate,
                static_cast<unsigned long long>(hits), static_cast<unsigned long long>(flags.size));
    if (flags.check) check(flags, hits, estimate);
}

}  // namespace
}  // namespace kernels

int main(int argc, char** argv) {
    kernels::PiFlags flags;
    kernels::Command command("pi", "Pi by Monte Carlo: a farm");
    command.add_common(flags, {"Points", 1, 1'000'000'000'000'000, 100'000'000});
    command.app()
        .add_option("--tasks", flags.tasks, "Virtual threads to spawn")
        ->check(CLI::Range(1, 100'000));
    return command.run(argc, argv, [&] { kernels::solve(flags); });
}
