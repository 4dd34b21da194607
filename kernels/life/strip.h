// Rows of Conway's game of life on a torus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace kernels {

/// Cells from left to right: 1 lives, 0 does not.
using LifeRow = std::vector<std::uint8_t>;

/// Some consecutive rows of the board. Its left and right edges meet; what is above and below its
/// owner must say.
class LifeStrip {
public:
    explicit LifeStrip(std::vector<LifeRow> rows) : rows_(std::move(rows)) {}

    /// Rows [first, first + count) of the random board of a seed: every third cell lives. `width`
    /// is at least 3.
    static LifeStrip random(std::uint64_t seed, std::size_t width, std::size_t first,
                            std::size_t count);

    [[nodiscard]] const LifeRow& top() const { return rows_.front(); }
    [[nodiscard]] const LifeRow& bottom() const { return rows_.back(); }
    [[nodiscard]] std::uint64_t population() const;
    /// Row after row.
    [[nodiscard]] std::vector<std::uint8_t> cells() const;

    /// One generation on. `above` and `below` are the neighbours' edges of the generation that
    /// ends.
    void step(const LifeRow& above, const LifeRow& below);

private:
    std::vector<LifeRow> rows_;
};

/// The board after some generations as the rules say it, cell by cell: slow, and for checks only.
std::vector<std::uint8_t> life_by_definition(std::vector<std::uint8_t> cells, std::size_t width,
                                             std::uint64_t generations);

}  // namespace kernels
