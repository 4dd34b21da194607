// Goal: the kernels' game of life is Conway's. Method: patterns whose future is known, on a torus
// small enough that they cross its edges; and strips that exchange edges against the rules applied
// cell by cell.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/life/strip.h"

namespace kernels {
namespace {

std::vector<LifeRow> rows_of(const std::vector<std::string>& drawing) {
    std::vector<LifeRow> rows;
    for (const std::string& line : drawing) {
        LifeRow& row = rows.emplace_back();
        for (const char cell : line) row.push_back(cell == '#' ? 1 : 0);
    }
    return rows;
}

std::vector<std::string> drawing_of(const LifeStrip& strip, std::size_t width) {
    std::vector<std::string> drawing;
    const auto cells = strip.cells();
    for (std::size_t at = 0; at < cells.size(); ++at) {
        if (at % width == 0) drawing.emplace_back();
        drawing.back() += cells[at] != 0 ? '#' : '.';
    }
    return drawing;
}

void step_alone(LifeStrip& board) {
    const LifeRow above = board.bottom();
    const LifeRow below = board.top();
    board.step(above, below);
}

TEST(Life, ABlinkerTurns) {
    LifeStrip board(rows_of({".....", "..#..", "..#..", "..#..", "....."}));
    step_alone(board);
    EXPECT_EQ(drawing_of(board, 5),
              (std::vector<std::string>{".....", ".....", ".###.", ".....", "....."}));
    EXPECT_EQ(board.population(), 3U);
}

TEST(Life, AGliderComesBackAcrossAllEdges) {
    const std::vector<std::string> glider = {".#....", "..#...", "###...",
                                             "......", "......", "......"};
    LifeStrip board(rows_of(glider));
    for (int generation = 0; generation < 4 * 6; ++generation) {
        if (generation > 0) {
            EXPECT_NE(drawing_of(board, 6), glider) << generation;
        }
        step_alone(board);
    }
    EXPECT_EQ(drawing_of(board, 6), glider) << "it moves one cell a side in four generations";
}

TEST(Life, StripsThatExchangeEdgesAreOneBoard) {
    constexpr std::size_t kWidth = 31;
    constexpr std::size_t kHeight = 20;
    LifeStrip upper = LifeStrip::random(5, kWidth, 0, 13);
    LifeStrip lower = LifeStrip::random(5, kWidth, 13, kHeight - 13);
    const auto start = LifeStrip::random(5, kWidth, 0, kHeight).cells();
    for (int generation = 0; generation < 30; ++generation) {
        const LifeStrip before = upper;
        upper.step(lower.bottom(), lower.top());
        lower.step(before.bottom(), before.top());
    }
    auto together = upper.cells();
    const auto rest = lower.cells();
    together.insert(together.end(), rest.begin(), rest.end());
    EXPECT_EQ(together, life_by_definition(start, kWidth, 30));
    EXPECT_NE(together, start);
}

}  // namespace
}  // namespace kernels
