// One island's evolution: a genetic algorithm whose chromosomes are tours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/common/random.h"
#include "kernels/ga_tsp/instance.h"

namespace kernels {

struct Chromosome {
    Tour tour;
    std::int64_t length = 0;

    template <class Archive>
    void serialize(Archive& archive) {
        archive(tour, length);
    }
};

/// A child of two tours: a part of one, the rest in the order of the other (Davis's order
/// crossover, 1985). Its edges are mostly its parents'.
Tour order_crossover(const Tour& mother, const Tour& father, RandomStream& random);

/// Two neighbouring parts of the tour change places.
void mutate(Tour& tour, RandomStream& random);

/// Tries as many 2-opt moves as there are cities, each making two near cities neighbours, and keeps
/// those that shorten.
void improve(Tour& tour, const Distances& distances, RandomStream& random);

/// Deterministic: what it becomes depends on the stream and on what was accepted when, and on
/// nothing else.
class Population {
public:
    /// Random tours. `distances` must outlive it.
    Population(const Distances& distances, RandomStream random, std::size_t size);

    void evolve(std::uint64_t generations);
    /// Another island's chromosome joins in.
    void accept(Chromosome immigrant);
    [[nodiscard]] const Chromosome& best() const { return members_.front(); }

private:
    Chromosome random_member();
    Chromosome child();
    /// The better of two at random.
    const Chromosome& parent();
    /// Lets the best live. Those of equal length count as the same tour, and random ones take their
    /// places, so that the population never becomes a single family.
    void select();

    const Distances& distances_;
    RandomStream random_;
    std::size_t size_;
    std::vector<Chromosome> members_;  ///< Best first.
};

}  // namespace kernels
