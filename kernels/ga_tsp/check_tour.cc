#include "kernels/ga_tsp/check_tour.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "kernels/common/command.h"

namespace kernels {

std::int64_t shortest_length(const Distances& distances) {
    // shortest[set][last]: of the paths that start in the last city, visit `set` of the others, and
    // end in its `last`.
    const std::size_t others = distances.cities() - 1;
    const auto home = static_cast<City>(others);
    constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max() / 2;
    std::vector<std::vector<std::int64_t>> shortest(std::size_t{1} << others,
                                                    std::vector<std::int64_t>(others, kNever));
    for (City city = 0; city < others; ++city)
        shortest[std::size_t{1} << city][city] = distances.between(home, city);

    for (std::size_t set = 1; set < shortest.size(); ++set) {
        for (City last = 0; last < others; ++last) {
            for (City next = 0; next < others; ++next) {
                if ((set >> next & 1) != 0) continue;
                std::int64_t& known = shortest[set | std::size_t{1} << next][next];
                known = std::min(known, shortest[set][last] + distances.between(last, next));
            }
        }
    }
    std::int64_t best = kNever;
    for (City last = 0; last < others; ++last)
        best = std::min(best, shortest.back()[last] + distances.between(last, home));
    return best;
}

void check_tour(const Distances& distances, const Chromosome& best) {
    Tour sorted = best.tour;
    std::sort(sorted.begin(), sorted.end());
    expect(sorted.size() == distances.cities(), "the tour visits " + std::to_string(sorted.size()) +
                                                    " of " + std::to_string(distances.cities()) +
                                                    " cities");
    for (City city = 0; city < sorted.size(); ++city)
        expect(sorted[city] == city, "city " + std::to_string(city + 1) + " is not visited once");

    const std::int64_t length = distances.length(best.tour);
    expect(length == best.length,
           "the tour is " + std::to_string(length) + " long, not " + std::to_string(best.length));
    if (distances.cities() > kMaxExactCities) return;
    const std::int64_t shortest = shortest_length(distances);
    expect(length == shortest, "the tour is " + std::to_string(length) + " long, the shortest " +
                                   std::to_string(shortest));
}

}  // namespace kernels
