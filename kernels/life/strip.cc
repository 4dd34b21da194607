#include "kernels/life/strip.h"

#include <numeric>
#include <utility>

#include "kernels/common/random.h"

namespace kernels {
namespace {

/// A cell lives on with two or three neighbours and comes to life with three.
std::uint8_t next_cell(int alive, int neighbours) {
    return neighbours == 3 || (neighbours == 2 && alive != 0) ? 1 : 0;
}

LifeRow next_row(const LifeRow& above, const LifeRow& row, const LifeRow& below) {
    const std::size_t width = row.size();
    LifeRow columns(width);  // How many live among the three cells of a column.
    for (std::size_t x = 0; x < width; ++x)
        columns[x] = static_cast<std::uint8_t>(above[x] + row[x] + below[x]);

    const auto cell = [&](std::size_t left, std::size_t x, std::size_t right) {
        return next_cell(row[x], columns[left] + columns[x] + columns[right] - row[x]);
    };
    LifeRow next(width);
    next.front() = cell(width - 1, 0, 1);
    for (std::size_t x = 1; x + 1 < width; ++x) next[x] = cell(x - 1, x, x + 1);
    next.back() = cell(width - 2, width - 1, 0);
    return next;
}

}  // namespace

LifeStrip LifeStrip::random(std::uint64_t seed, std::size_t width, std::size_t first,
                            std::size_t count) {
    std::vector<LifeRow> rows(count, LifeRow(width));
    for (std::size_t y = 0; y < count; ++y) {
        RandomStream stream(seed, first + y);
        for (std::uint8_t& cell : rows[y]) cell = stream.below(3) == 0 ? 1 : 0;
    }
    return LifeStrip(std::move(rows));
}

std::uint64_t LifeStrip::population() const {
    std::uint64_t alive = 0;
    for (const LifeRow& row : rows_)
        alive += std::accumulate(row.begin(), row.end(), std::uint64_t{0});
    return alive;
}

std::vector<std::uint8_t> LifeStrip::cells() const {
    std::vector<std::uint8_t> all;
    for (const LifeRow& row : rows_) all.insert(all.end(), row.begin(), row.end());
    return all;
}

void LifeStrip::step(const LifeRow& above, const LifeRow& below) {
    std::vector<LifeRow> next(rows_.size());
    for (std::size_t y = 0; y < rows_.size(); ++y) {
        next[y] = next_row(y == 0 ? above : rows_[y - 1], rows_[y],
                           y + 1 == rows_.size() ? below : rows_[y + 1]);
    }
    rows_ = std::move(next);
}

std::vector<std::uint8_t> life_by_definition(std::vector<std::uint8_t> cells, std::size_t width,
                                             std::uint64_t generations) {
    const std::size_t height = cells.size() / width;
    for (std::uint64_t generation = 0; generation < generations; ++generation) {
        std::vector<std::uint8_t> next(cells.size());
        for (std::size_t at = 0; at < cells.size(); ++at) {
            int neighbours = -cells[at];
            for (std::size_t dy = 0; dy < 3; ++dy) {
                for (std::size_t dx = 0; dx < 3; ++dx) {
                    const std::size_t y = (at / width + height + dy - 1) % height;
                    const std::size_t x = (at % width + width + dx - 1) % width;
                    neighbours += cells[y * width + x];
                }
            }
            next[at] = next_cell(cells[at], neighbours);
        }
        cells = std::move(next);
    }
    return cells;
}

}  // namespace kernels
