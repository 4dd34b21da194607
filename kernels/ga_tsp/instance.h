// What is to be solved: cities, and how far they are from each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kernels {

/// How distances come from coordinates: TSPLIB's edge weight types (Reinelt: TSPLIB 95), each
/// rounded to integers as it says there, which makes lengths comparable with published ones.
enum class Metric : std::uint8_t {
    kEuclidean,         ///< EUC_2D
    kEuclideanCeiling,  ///< CEIL_2D
    kManhattan,         ///< MAN_2D
    kMaximum,           ///< MAX_2D
    kGeographic,        ///< GEO: degrees and minutes, kilometres
    kPseudoEuclidean,   ///< ATT
    kExplicit,          ///< EXPLICIT: no coordinates, a matrix
};

struct Point {
    double x;
    double y;
};

/// As it travels to the islands: coordinates, not the matrix that they make.
struct Instance {
    static constexpr std::size_t kMinCities = 3;
    static constexpr std::size_t kMaxCities =
        4096;  ///< The matrix then takes 64 MiB on each island.

    std::string name;
    Metric metric = Metric::kEuclidean;
    std::vector<Point> cities;
    std::vector<std::int32_t> matrix;  ///< Row after row; of kExplicit only.

    /// Cities at random in a square of 1000 by 1000.
    static Instance random(std::uint64_t seed, std::size_t cities);

    template <class Archive>
    void serialize(Archive& archive) {
        archive(name, metric, cities, matrix);
    }
};

using City = std::uint32_t;
/// Each city once, in the order of the visits.
using Tour = std::vector<City>;

/// Every distance of an instance, and every city's nearest ones.
class Distances {
public:
    explicit Distances(const Instance& instance);

    [[nodiscard]] std::size_t cities() const { return cities_; }
    [[nodiscard]] std::int32_t between(City a, City b) const { return matrix_[a * cities_ + b]; }
    [[nodiscard]] std::int64_t length(const Tour& tour) const;

    /// How many near cities each has.
    [[nodiscard]] std::uint32_t near_count() const { return near_count_; }
    /// The nearest is number 0.
    [[nodiscard]] City near(City city, std::uint32_t number) const {
        return near_[std::size_t{city} * near_count_ + number];
    }

private:
    std::size_t cities_;
    std::vector<std::int32_t> matrix_;
    std::uint32_t near_count_;
    std::vector<City> near_;
};

}  // namespace kernels
