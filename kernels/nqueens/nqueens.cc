// The n queens problem: recursive spawn. Each virtual thread places one queen on the next row in
// every way it can and spawns a virtual thread for each; from some row on they count what is left
// by themselves.
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/common/command.h"
#include "kernels/nqueens/board.h"
#include "ppdsm/ppdsm.h"

namespace kernels {
namespace {

struct QueensFlags : CommonFlags {
    std::uint32_t spawn_rows = 1;
};

/// Virtual threads take care of the next `spawn_rows` rows.
std::uint64_t count_on_mesh(QueensBoard board, std::uint32_t spawn_rows) {
    if (spawn_rows == 0 || board.is_full()) return count_solutions(board);
    std::vector<ppdsm::VirtualThread<std::uint64_t>> parts;
    for_each_next(board, [&](const QueensBoard& next) {
        parts.push_back(ppdsm::self().spawn(count_on_mesh, next, spawn_rows - 1));
    });
    std::uint64_t solutions = 0;
    for (const std::uint64_t in_part : ppdsm::when_all(parts)) solutions += in_part;
    return solutions;
}

void solve(const QueensFlags& flags) {
    const ppdsm::VirtualComputer computer({.workers = flags.workers});
    const auto board = QueensBoard::empty(static_cast<std::uint32_t>(flags.size));
    const std::uint64_t solutions = count_on_mesh(board, flags.spawn_rows);
    std::printf("%llu queens: %llu solutions\n", static_cast<unsigned long long>(flags.size),
                static_cast<unsigned long long>(solutions));
    if (flags.check) {
        const std::uint64_t known = kKnownSolutions[flags.size];
        expect(solutions == known, "there are " + std::to_string(known));
    }
}

}  // namespace
}  // namespace kernels

int main(int argc, char** argv) {
    kernels::QueensFlags flags;
    kernels::Command command("nqueens", "The n queens problem: recursive spawn");
    command.add_common(flags, {"Queens", 1, kernels::kKnownSolutions.size() - 1, 12});
    command.app()
        .add_option("--spawn-rows", flags.spawn_rows, "Rows that virtual threads are spawned for")
        ->check(CLI::Range(0, 4));
    return command.run(argc, argv, [&] { kernels::solve(flags); });
}
