// Goal: evolution yields tours, finds the shortest of small instances, and repeats itself; the
// check knows a wrong tour.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/common/command.h"
#include "kernels/ga_tsp/check_tour.h"
#include "kernels/ga_tsp/population.h"

namespace kernels {
namespace {

Tour in_order(std::size_t cities) {
    Tour tour(cities);
    std::iota(tour.begin(), tour.end(), City{0});
    return tour;
}

bool is_permutation_of_cities(Tour tour) {
    std::sort(tour.begin(), tour.end());
    return tour == in_order(tour.size());
}

TEST(Crossover, OfPermutationsIsAPermutationWithGenesOfBoth) {
    RandomStream random(1, 0);
    const Tour mother = in_order(20);
    const Tour father(mother.rbegin(), mother.rend());
    int mixed = 0;
    for (int i = 0; i < 200; ++i) {
        const Tour child = order_crossover(mother, father, random);
        ASSERT_EQ(child.size(), 20U);
        ASSERT_TRUE(is_permutation_of_cities(child));
        mixed += child != mother && child != father ? 1 : 0;
    }
    EXPECT_GT(mixed, 100);
}

TEST(Mutation, LeavesAPermutation) {
    RandomStream random(1, 0);
    Tour tour = in_order(9);
    for (int i = 0; i < 200; ++i) {
        mutate(tour, random);
        ASSERT_TRUE(is_permutation_of_cities(tour));
    }
    EXPECT_NE(tour, in_order(9));
}

TEST(Improvement, LeavesAPermutationAndNeverLengthens) {
    const Distances distances(Instance::random(7, 60));
    RandomStream random(1, 0);
    Tour tour = in_order(60);
    const std::int64_t at_first = distances.length(tour);
    std::int64_t before = at_first;
    for (int i = 0; i < 50; ++i) {
        improve(tour, distances, random);
        ASSERT_TRUE(is_permutation_of_cities(tour));
        ASSERT_LE(distances.length(tour), before);
        before = distances.length(tour);
    }
    EXPECT_LT(before, at_first / 2) << "a random tour of 60 cities is more than twice too long";
}

TEST(HeldKarp, KnowsTheShortestWayRoundASquare) {
    Instance instance;
    instance.cities = {{0, 0}, {10, 10}, {10, 0}, {0, 10}, {5, 0}};
    EXPECT_EQ(shortest_length(Distances(instance)), 40);
}

TEST(HeldKarp, AgreesWithTryingEveryTour) {
    const Distances distances(Instance::random(3, 8));
    Tour tour = in_order(8);
    std::int64_t shortest = distances.length(tour);
    while (std::next_permutation(tour.begin() + 1, tour.end()))
        shortest = std::min(shortest, distances.length(tour));
    EXPECT_EQ(shortest_length(distances), shortest);
}

class SmallInstances : public testing::TestWithParam<std::size_t> {};

TEST_P(SmallInstances, EvolutionFindsTheShortestTour) {
    const Distances distances(Instance::random(11, GetParam()));
    Population population(distances, RandomStream(1, 0), 30);
    population.evolve(100);
    EXPECT_NO_THROW(check_tour(distances, population.best()));
}
INSTANTIATE_TEST_SUITE_P(Ga, SmallInstances, testing::Values(3, 4, 5, 8, 13));

TEST(Population, RepeatsItselfAndGrowsNoWorse) {
    const Distances distances(Instance::random(2, 80));
    Population one(distances, RandomStream(1, 4), 20);
    Population other(distances, RandomStream(1, 4), 20);
    std::int64_t before = one.best().length;
    for (int chunk = 0; chunk < 5; ++chunk) {
        one.evolve(4);
        EXPECT_LE(one.best().length, before);
        before = one.best().length;
    }
    other.evolve(20);
    EXPECT_EQ(one.best().tour, other.best().tour);
}

TEST(Population, AnImmigrantThatIsBetterLeads) {
    const Distances distances(Instance::random(2, 80));
    Population far_on(distances, RandomStream(1, 0), 20);
    far_on.evolve(50);
    Population young(distances, RandomStream(1, 1), 20);
    ASSERT_GT(young.best().length, far_on.best().length);
    young.accept(far_on.best());
    EXPECT_EQ(young.best().tour, far_on.best().tour);
}

TEST(Population, EqualDistancesAreNoTrap) {
    Instance instance;
    instance.metric = Metric::kExplicit;
    instance.matrix.assign(25, 7);
    const Distances distances(instance);
    Population population(distances, RandomStream(1, 0), 10);
    population.evolve(3);
    EXPECT_EQ(population.best().length, 35);
}

TEST(CheckTour, SaysWhatIsWrong) {
    const Distances distances(Instance::random(3, 9));
    Population population(distances, RandomStream(1, 0), 30);
    population.evolve(100);
    const Chromosome good = population.best();
    ASSERT_NO_THROW(check_tour(distances, good));

    Chromosome twice = good;
    twice.tour[3] = twice.tour[4];
    EXPECT_THROW(check_tour(distances, twice), WrongAnswer);
    Chromosome cut = good;
    cut.tour.pop_back();
    EXPECT_THROW(check_tour(distances, cut), WrongAnswer);
    Chromosome liar = good;
    liar.length -= 1;
    EXPECT_THROW(check_tour(distances, liar), WrongAnswer);
    Chromosome longer = good;
    while (longer.length == good.length) {
        std::next_permutation(longer.tour.begin(), longer.tour.end());
        longer.length = distances.length(longer.tour);
    }
    EXPECT_THROW(check_tour(distances, longer), WrongAnswer);
}

}  // namespace
}  // namespace kernels
