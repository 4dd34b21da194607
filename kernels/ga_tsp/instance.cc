#include "kernels/ga_tsp/instance.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/common/random.h"

namespace kernels {
namespace {

std::int32_t nearest_integer(double x) { return static_cast<std::int32_t>(std::lround(x)); }

/// Of DDD.MM, degrees and minutes. TSPLIB's own constant for pi: a better one gives other lengths
/// than those published.
double radians(double degrees_minutes) {
    const double degrees = std::trunc(degrees_minutes);
    return 3.141592 * (degrees + 5.0 * (degrees_minutes - degrees) / 3.0) / 180.0;
}

std::int32_t geographic(const Point& a, const Point& b) {
    constexpr double kEarthRadiusKm = 6378.388;
    const double q1 = std::cos(radians(a.y) - radians(b.y));
    const double q2 = std::cos(radians(a.x) - radians(b.x));
    const double q3 = std::cos(radians(a.x) + radians(b.x));
    const double cosine = std::clamp(0.5 * ((1.0 + q1) * q2 - (1.0 - q1) * q3), -1.0, 1.0);
    return static_cast<std::int32_t>(kEarthRadiusKm * std::acos(cosine) + 1.0);
}

std::int32_t distance(Metric metric, const Point& a, const Point& b) {
    const double dx = std::abs(a.x - b.x);
    const double dy = std::abs(a.y - b.y);
    switch (metric) {
        case Metric::kEuclidean: return nearest_integer(std::sqrt(dx * dx + dy * dy));
        case Metric::kEuclideanCeiling:
            return static_cast<std::int32_t>(std::ceil(std::sqrt(dx * dx + dy * dy)));
        case Metric::kManhattan: return nearest_integer(dx + dy);
        case Metric::kMaximum: return std::max(nearest_integer(dx), nearest_integer(dy));
        case Metric::kGeographic: return geographic(a, b);
        case Metric::kPseudoEuclidean:
            return static_cast<std::int32_t>(std::ceil(std::sqrt((dx * dx + dy * dy) / 10.0)));
        case Metric::kExplicit: break;
    }
    return 0;
}

std::vector<std::int32_t> distance_matrix(const Instance& instance) {
    if (instance.metric == Metric::kExplicit) return instance.matrix;
    const std::size_t cities = instance.cities.size();
    std::vector<std::int32_t> matrix(cities * cities);
    for (std::size_t a = 0; a < cities; ++a) {
        for (std::size_t b = 0; b < a; ++b) {
            const std::int32_t d =
                distance(instance.metric, instance.cities[a], instance.cities[b]);
            matrix[a * cities + b] = d;
            matrix[b * cities + a] = d;
        }
    }
    return matrix;
}

std::size_t count_cities(const Instance& instance) {
    if (instance.metric != Metric::kExplicit) return instance.cities.size();
    return static_cast<std::size_t>(std::lround(std::sqrt(instance.matrix.size())));
}

}  // namespace

Instance Instance::random(std::uint64_t seed, std::size_t cities) {
    RandomStream stream(seed, cities);
    Instance instance;
    instance.name = "random" + std::to_string(cities);
    for (std::size_t city = 0; city < cities; ++city) {
        const std::uint32_t x = stream.below(1000);
        const std::uint32_t y = stream.below(1000);
        instance.cities.push_back({static_cast<double>(x), static_cast<double>(y)});
    }
    return instance;
}

Distances::Distances(const Instance& instance)
    : cities_(count_cities(instance)),
      matrix_(distance_matrix(instance)),
      near_count_(static_cast<std::uint32_t>(std::min<std::size_t>(8, cities_ - 1))) {
    near_.reserve(cities_ * near_count_);
    for (City city = 0; city < cities_; ++city) {
        std::vector<City> others(cities_);
        std::iota(others.begin(), others.end(), City{0});
        others.erase(others.begin() + city);
        const auto last = others.begin() + near_count_;
        std::partial_sort(others.begin(), last, others.end(), [&](City a, City b) {
            return std::pair(between(city, a), a) < std::pair(between(city, b), b);
        });
        near_.insert(near_.end(), others.begin(), last);
    }
}

std::int64_t Distances::length(const Tour& tour) const {
    std::int64_t length = 0;
    for (std::size_t i = 0; i < tour.size(); ++i)
        length += between(tour[i], tour[i + 1 == tour.size() ? 0 : i + 1]);
    return length;
}

}  // namespace kernels
