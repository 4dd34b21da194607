// Is it a tour, is it as long as it says, and is it the shortest where that can be known?
#pragma once

#include "kernels/ga_tsp/population.h"

namespace kernels {

/// Up to so many cities the shortest tour is computed to compare with.
inline constexpr std::size_t kMaxExactCities = 16;

/// The length of the shortest tour by dynamic programming over sets of cities (Held, Karp 1962):
/// O(2^n n^2) time, so for small instances only.
std::int64_t shortest_length(const Distances& distances);

/// Throws WrongAnswer.
void check_tour(const Distances& distances, const Chromosome& best);

}  // namespace kernels
