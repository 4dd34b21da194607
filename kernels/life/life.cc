// Conway's game of life on a torus: neighbour messages. Each virtual thread has a strip of rows and
// sends its edges to those above and below in every generation.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/common/command.h"
#include "kernels/common/hash.h"
#include "kernels/life/strip.h"
#include "ppdsm/ppdsm.h"

namespace kernels {
namespace {

struct LifeFlags : CommonFlags {
    std::uint64_t generations = 100;
};

/// What one virtual thread is told: which strip of how many is its own.
struct StripOrder {
    std::uint64_t strip;
    std::uint64_t strips;
    std::uint64_t size;
    std::uint64_t seed;
    std::uint64_t generations;

    [[nodiscard]] std::uint64_t first_row(std::uint64_t of_strip) const {
        return of_strip * size / strips;
    }
};

using Edge = ppdsm::Mailbox<LifeRow>;

/// Where a strip receives the bottom row of the one above it,
Edge above(std::uint64_t strip) { return Edge("above " + std::to_string(strip)); }
/// and the top row of the one below.
Edge below(std::uint64_t strip) { return Edge("below " + std::to_string(strip)); }

/// The strip's cells in the end: a gibibyte at most, which is as much as a result may have.
std::vector<std::uint8_t> live(const StripOrder& order) {
    const std::uint64_t first = order.first_row(order.strip);
    LifeStrip strip =
        LifeStrip::random(order.seed, order.size, first, order.first_row(order.strip + 1) - first);
    Edge from_above = above(order.strip);
    Edge from_below = below(order.strip);
    Edge to_above = below((order.strip + order.strips - 1) % order.strips);
    Edge to_below = above((order.strip + 1) % order.strips);
    for (std::uint64_t generation = 0; generation < order.generations; ++generation) {
        to_above.send(strip.top());
        to_below.send(strip.bottom());
        const LifeRow edge_above = from_above.receive().value;
        strip.step(edge_above, from_below.receive().value);
    }
    return strip.cells();
}

std::vector<std::uint8_t> live_on_mesh(const LifeFlags& flags) {
    ppdsm::VirtualComputer computer({.workers = flags.workers});
    const std::uint64_t count = std::min<std::uint64_t>(flags.workers, flags.size);
    std::vector<ppdsm::VirtualThread<std::vector<std::uint8_t>>> strips;
    strips.reserve(count);
    for (std::uint64_t strip = 0; strip < count; ++strip) {
        strips.push_back(computer.spawn(
            live, StripOrder{strip, count, flags.size, flags.seed, flags.generations}));
    }
    std::vector<std::uint8_t> board;
    for (const auto& cells : ppdsm::when_all(strips))
        board.insert(board.end(), cells.begin(), cells.end());
    return board;
}

void check(const LifeFlags& flags, const std::vector<std::uint8_t>& board) {
    const auto start = LifeStrip::random(flags.seed, flags.size, 0, flags.size).cells();
    expect(board == life_by_definition(start, flags.size, flags.generations),
           "the rules, applied cell by cell, lead to another board");
}

void solve(const LifeFlags& flags) {
    const auto board = live_on_mesh(flags);
    std::printf("generation %llu: %llu of %zu cells live, fingerprint %016llx\n",
                static_cast<unsigned long long>(flags.generations),
                static_cast<unsigned long long>(std::count(board.begin(), board.end(), 1)),
                board.size(), static_cast<unsigned long long>(fingerprint(board)));
    if (flags.check) check(flags, board);
}

}  // namespace
}  // namespace kernels

int main(int argc, char** argv) {
    kernels::LifeFlags flags;
    kernels::Command command("life", "Conway's game of life: neighbour messages");
    command.add_common(flags, {"Cells a side", 3, 32768, 512});
    command.app()
        .add_option("--generations", flags.generations, "To live through")
        ->check(CLI::Range(0, 1'000'000'000));
    return command.run(argc, argv, [&] { kernels::solve(flags); });
}
