// A chess board with queens on its first rows, none of which attacks another.
#pragma once

#include <array>
#include <cstdint>

namespace kernels {

struct QueensBoard {
    std::uint32_t size;
    std::uint32_t columns;  ///< Bit c: column c has a queen.
    std::uint32_t rising;   ///< Bit c: column c of the next row is attacked along a diagonal,
    std::uint32_t falling;  ///< and along one in the other direction.

    static QueensBoard empty(std::uint32_t size) { return {size, 0, 0, 0}; }

    /// The squares of the next row that no queen attacks.
    [[nodiscard]] std::uint32_t free_squares() const {
        return ~(columns | rising | falling) & ((1U << size) - 1);
    }
    [[nodiscard]] QueensBoard with_queen(std::uint32_t square) const {
        return {size, columns | square, (rising | square) << 1, (falling | square) >> 1};
    }
    [[nodiscard]] bool is_full() const { return columns == (1U << size) - 1; }
};

/// Calls `visit` with each board that has one queen more.
template <class Visit>
void for_each_next(const QueensBoard& board, Visit&& visit) {
    for (std::uint32_t left = board.free_squares(); left != 0; left &= left - 1)
        visit(board.with_queen(left & -left));
}

/// In how many ways the board can be filled.
inline std::uint64_t count_solutions(const QueensBoard& board) {
    if (board.is_full()) return 1;
    std::uint64_t solutions = 0;
    for_each_next(board, [&](const QueensBoard& next) { solutions += count_solutions(next); });
    return solutions;
}

/// How many solutions boards of size 0, 1, ... have (OEIS A000170).
inline constexpr std::array<std::uint64_t, 19> kKnownSolutions = {
    1,   1,    0,     0,     2,      10,      4,        40,       92,       352,
    724, 2680, 14200, 73712, 365596, 2279184, 14772512, 95815104, 666090624};

}  // namespace kernels
