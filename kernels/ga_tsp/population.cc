#include "kernels/ga_tsp/population.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>
#include <tuple>
#include <utility>

namespace kernels {
namespace {

/// Reverses the cities at [first, last] of a cyclic tour and keeps `places` (where each city is)
/// true. The other part is reversed where that is shorter: it gives the same cycle.
void reverse_part(Tour& tour, std::vector<std::uint32_t>& places, std::size_t first,
                  std::size_t last) {
    const std::size_t size = tour.size();
    std::size_t count = (last + size - first) % size + 1;
    if (2 * count > size) {
        std::swap(first, last);
        first = (first + 1) % size;
        last = (last + size - 1) % size;
        count = size - count;
    }
    for (; count > 1; count -= 2) {
        std::swap(tour[first], tour[last]);
        places[tour[first]] = static_cast<std::uint32_t>(first);
        places[tour[last]] = static_cast<std::uint32_t>(last);
        first = (first + 1) % size;
        last = (last + size - 1) % size;
    }
}

std::uint32_t size_of(const Tour& tour) { return static_cast<std::uint32_t>(tour.size()); }

}  // namespace

Tour order_crossover(const Tour& mother, const Tour& father, RandomStream& random) {
    const std::uint32_t size = size_of(mother);
    const std::uint32_t first = random.below(size);
    const std::uint32_t count = 1 + random.below(size - 1);
    Tour child;
    child.reserve(size);
    std::vector<bool> taken(size);
    for (std::uint32_t i = 0; i < count; ++i) {
        child.push_back(mother[(first + i) % size]);
        taken[child.back()] = true;
    }
    for (std::uint32_t i = 0; i < size; ++i) {
        const City city = father[(first + count + i) % size];
        if (!taken[city]) child.push_back(city);
    }
    return child;
}

void mutate(Tour& tour, RandomStream& random) {
    const std::uint32_t size = size_of(tour);
    std::array<std::uint32_t, 3> cuts = {random.below(size), random.below(size),
                                         random.below(size)};
    std::sort(cuts.begin(), cuts.end());
    std::rotate(tour.begin() + cuts[0], tour.begin() + cuts[1], tour.begin() + cuts[2]);
}

void improve(Tour& tour, const Distances& distances, RandomStream& random) {
    const std::uint32_t size = size_of(tour);
    std::vector<std::uint32_t> places(size);
    for (std::uint32_t i = 0; i < size; ++i) places[tour[i]] = i;
    for (std::uint32_t tries = 0; tries < size; ++tries) {
        const City a = random.below(size);
        const City b = distances.near(a, random.below(distances.near_count()));
        const City after_a = tour[(places[a] + 1) % size];
        const City after_b = tour[(places[b] + 1) % size];
        const std::int64_t before =
            std::int64_t{distances.between(a, after_a)} + distances.between(b, after_b);
        const std::int64_t then =
            std::int64_t{distances.between(a, b)} + distances.between(after_a, after_b);
        if (then < before) reverse_part(tour, places, places[after_a], places[b]);
    }
}

Population::Population(const Distances& distances, RandomStream random, std::size_t size)
    : distances_(distances), random_(random), size_(size) {
    select();
}

void Population::evolve(std::uint64_t generations) {
    for (std::uint64_t generation = 0; generation < generations; ++generation) {
        std::vector<Chromosome> children(size_);
        std::generate(children.begin(), children.end(), [&] { return child(); });
        std::move(children.begin(), children.end(), std::back_inserter(members_));
        select();
    }
}

void Population::accept(Chromosome immigrant) {
    members_.push_back(std::move(immigrant));
    select();
}

Chromosome Population::random_member() {
    Tour tour(distances_.cities());
    std::iota(tour.begin(), tour.end(), City{0});
    for (std::uint32_t left = size_of(tour); left > 1; --left)
        std::swap(tour[left - 1], tour[random_.below(left)]);
    improve(tour, distances_, random_);
    const std::int64_t length = distances_.length(tour);
    return {std::move(tour), length};
}

Chromosome Population::child() {
    const Tour& mother = parent().tour;
    const Tour& father = parent().tour;
    Tour tour = order_crossover(mother, father, random_);
    if (random_.below(4) == 0) mutate(tour, random_);
    improve(tour, distances_, random_);
    const std::int64_t length = distances_.length(tour);
    return {std::move(tour), length};
}

const Chromosome& Population::parent() {
    const auto count = static_cast<std::uint32_t>(members_.size());
    const std::uint32_t one = random_.below(count);
    const std::uint32_t other = random_.below(count);
    return members_[std::min(one, other)];
}

void Population::select() {
    const auto sort_by_length = [&] {
        std::sort(members_.begin(), members_.end(), [](const Chromosome& a, const Chromosome& b) {
            return std::tie(a.length, a.tour) < std::tie(b.length, b.tour);
        });
    };
    sort_by_length();
    const auto same =
        std::unique(members_.begin(), members_.end(),
                    [](const Chromosome& a, const Chromosome& b) { return a.length == b.length; });
    members_.erase(same, members_.end());
    if (members_.size() >= size_) {
        members_.erase(members_.begin() + static_cast<std::ptrdiff_t>(size_), members_.end());
        return;
    }
    while (members_.size() < size_) members_.push_back(random_member());
    sort_by_length();
}

}  // namespace kernels
