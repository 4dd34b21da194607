// Random points of the unit square, by number.
#pragma once

#include <cstdint>

#include "kernels/common/random.h"

namespace kernels {

/// How many of the points [first, first + count) of a seed are in the quarter circle. In integers,
/// so that every machine says the same.
inline std::uint64_t count_in_circle(std::uint64_t seed, std::uint64_t first, std::uint64_t count) {
    constexpr std::uint64_t kOne = std::uint64_t{1} << 31;
    std::uint64_t hits = 0;
    for (std::uint64_t point = first; point < first + count; ++point) {
        const std::uint64_t bits = random_at(mix(seed), point);
        const std::uint64_t x = bits >> 33;
        const std::uint64_t y = bits & (kOne - 1);
        hits += x * x + y * y < kOne * kOne ? 1 : 0;
    }
    return hits;
}

}  // namespace kernels
