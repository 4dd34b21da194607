#include "kernels/ga_tsp/tsplib.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace kernels {
namespace {

const std::map<std::string, Metric> kMetrics = {
    {"EUC_2D", Metric::kEuclidean},  {"CEIL_2D", Metric::kEuclideanCeiling},
    {"MAN_2D", Metric::kManhattan},  {"MAX_2D", Metric::kMaximum},
    {"GEO", Metric::kGeographic},    {"ATT", Metric::kPseudoEuclidean},
    {"EXPLICIT", Metric::kExplicit},
};

/// Which part of the matrix a file gives: of row r the columns [first, last).
struct MatrixPart {
    std::size_t first;
    std::size_t last;
};

std::optional<MatrixPart> part_of_row(const std::string& format, std::size_t row,
                                      std::size_t cities) {
    if (format == "FULL_MATRIX") return MatrixPart{0, cities};
    if (format == "UPPER_ROW") return MatrixPart{row + 1, cities};
    if (format == "LOWER_ROW") return MatrixPart{0, row};
    if (format == "UPPER_DIAG_ROW") return MatrixPart{row, cities};
    if (format == "LOWER_DIAG_ROW") return MatrixPart{0, row + 1};
    return std::nullopt;
}

template <class Number>
std::optional<Number> parse(std::string_view text) {
    if (text.starts_with('+')) text.remove_prefix(1);
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return number;
}

std::string trimmed(const std::string& text) {
    const auto first = text.find_first_not_of(" \t\r");
    if (first == std::string::npos) return "";
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

class Reader {
public:
    Reader(std::istream& in, std::string path) : in_(in), path_(std::move(path)) {}

    Instance read();

private:
    [[noreturn]] void fail(const std::string& why) const {
        throw std::runtime_error(path_ + ":" + std::to_string(line_number_) + ": " + why);
    }
    /// The next line that is not blank, in line_.
    bool next_line();
    /// The next word of a section's numbers, over line ends.
    std::string next_word();

    /// One KEYWORD: VALUE line, or a section; false at EOF.
    bool read_entry();
    void set(const std::string& keyword, const std::string& value);
    void read_cities();
    void read_matrix();
    void skip_display_data();
    void require_cities();
    double coordinate(const std::string& word) const;
    void set_distance(std::size_t a, std::size_t b, std::int32_t distance);

    std::istream& in_;
    std::string path_;
    std::string line_;
    std::size_t line_number_ = 0;
    std::istringstream words_;

    Instance instance_;
    std::size_t cities_ = 0;
    bool has_metric_ = false;
    bool has_distances_ = false;
    std::string matrix_format_;
};

Instance Reader::read() {
    while (next_line() && read_entry()) {
    }
    if (in_.bad()) fail(std::string("cannot be read: ") + std::strerror(errno));
    if (!has_distances_) {
        fail(instance_.metric == Metric::kExplicit ? "the file ends without EDGE_WEIGHT_SECTION"
                                                   : "the file ends without NODE_COORD_SECTION");
    }
    return std::move(instance_);
}

bool Reader::next_line() {
    while (std::getline(in_, line_)) {
        ++line_number_;
        line_ = trimmed(line_);
        if (!line_.empty()) return true;
    }
    return false;
}

std::string Reader::next_word() {
    std::string word;
    while (!(words_ >> word)) {
        if (!next_line()) fail("the file ends within a section");
        words_ = std::istringstream(line_);
    }
    return word;
}

bool Reader::read_entry() {
    const auto colon = line_.find(':');
    const std::string keyword = trimmed(line_.substr(0, colon));
    if (keyword == "EOF") return false;
    if (keyword == "NODE_COORD_SECTION") {
        read_cities();
    } else if (keyword == "EDGE_WEIGHT_SECTION") {
        read_matrix();
    } else if (keyword == "DISPLAY_DATA_SECTION") {
        skip_display_data();
    } else if (colon == std::string::npos) {
        fail("'" + line_.substr(0, 40) + "' is no keyword that is known here");
    } else {
        set(keyword, trimmed(line_.substr(colon + 1)));
    }
    return true;
}

void Reader::set(const std::string& keyword, const std::string& value) {
    if (keyword == "NAME") {
        instance_.name = value;
    } else if (keyword == "TYPE") {
        // Some say "TSP (M.~Hofmeister)".
        if (value.substr(0, value.find(' ')) != "TSP")
            fail("TYPE is " + value + "; only TSP is supported");
    } else if (keyword == "DIMENSION") {
        if (cities_ != 0) fail("DIMENSION comes twice");
        cities_ = parse<std::size_t>(value).value_or(0);
        if (cities_ < Instance::kMinCities || cities_ > Instance::kMaxCities) {
            fail("DIMENSION is " + value + "; " + std::to_string(Instance::kMinCities) + " to " +
                 std::to_string(Instance::kMaxCities) + " cities are supported");
        }
    } else if (keyword == "EDGE_WEIGHT_TYPE") {
        if (has_metric_) fail("EDGE_WEIGHT_TYPE comes twice");
        const auto metric = kMetrics.find(value);
        if (metric == kMetrics.end()) fail("EDGE_WEIGHT_TYPE " + value + " is not supported");
        instance_.metric = metric->second;
        has_metric_ = true;
    } else if (keyword == "EDGE_WEIGHT_FORMAT") {
        matrix_format_ = value;
    } else if (keyword != "COMMENT" && keyword != "NODE_COORD_TYPE" &&
               keyword != "DISPLAY_DATA_TYPE") {
        fail(keyword + " is not supported");
    }
}

void Reader::require_cities() {
    if (cities_ == 0) fail("DIMENSION must come before " + line_);
    if (!has_metric_) fail("EDGE_WEIGHT_TYPE must come before " + line_);
}

double Reader::coordinate(const std::string& word) const {
    constexpr double kLargest = 1e8;  // So that every distance fits.
    const auto value = parse<double>(word);
    if (!value || !std::isfinite(*value)) fail("'" + word + "' is no coordinate");
    if (std::abs(*value) > kLargest) fail("coordinate " + word + " is too large");
    return *value;
}

void Reader::read_cities() {
    require_cities();
    instance_.cities.resize(cities_);
    std::vector<bool> seen(cities_);
    for (std::size_t i = 0; i < cities_; ++i) {
        if (!next_line()) {
            fail("the file ends after " + std::to_string(i) + " of " + std::to_string(cities_) +
                 " cities");
        }
        std::array<std::string, 3> words;
        std::string surplus;
        std::istringstream line(line_);
        line >> words[0] >> words[1] >> words[2];
        if (words[2].empty() || line >> surplus)
            fail("'" + line_ + "' is no city: its number and two coordinates are expected");
        const auto number = parse<std::size_t>(words[0]).value_or(0);
        if (number == 0 || number > cities_) fail("'" + words[0] + "' is no city's number");
        if (seen[number - 1]) fail("city " + words[0] + " comes twice");
        seen[number - 1] = true;
        instance_.cities[number - 1] = {coordinate(words[1]), coordinate(words[2])};
    }
    if (instance_.metric != Metric::kExplicit) has_distances_ = true;
}

void Reader::read_matrix() {
    require_cities();
    if (instance_.metric != Metric::kExplicit)
        fail("EDGE_WEIGHT_SECTION needs EDGE_WEIGHT_TYPE: EXPLICIT");
    if (!part_of_row(matrix_format_, 0, cities_))
        fail("EDGE_WEIGHT_FORMAT '" + matrix_format_ + "' is not supported");
    instance_.matrix.assign(cities_ * cities_, -1);
    words_.clear();
    words_.str("");
    for (std::size_t row = 0; row < cities_; ++row) {
        const auto [first, last] = part_of_row(matrix_format_, row, cities_).value();
        for (std::size_t column = first; column < last; ++column) {
            const std::string word = next_word();
            const auto distance = parse<std::int32_t>(word);
            if (!distance || *distance < 0) fail("'" + word + "' is no distance");
            set_distance(row, column, *distance);
        }
    }
    std::string surplus;
    if (words_ >> surplus) fail("'" + surplus + "' follows the last distance");
    has_distances_ = true;
}

void Reader::set_distance(std::size_t a, std::size_t b, std::int32_t distance) {
    auto& matrix = instance_.matrix;
    if (a == b) return;  // Some files mark the diagonal with a large number.
    if (matrix[b * cities_ + a] >= 0 && matrix[b * cities_ + a] != distance) {
        fail("the distance from " + std::to_string(a + 1) + " to " + std::to_string(b + 1) +
             " differs from that back; only symmetric ones are supported");
    }
    matrix[a * cities_ + b] = distance;
    matrix[b * cities_ + a] = distance;
}

void Reader::skip_display_data() {
    require_cities();
    for (std::size_t i = 0; i < cities_; ++i) {
        if (!next_line()) fail("the file ends within DISPLAY_DATA_SECTION");
    }
}

}  // namespace

Instance read_tsplib(std::istream& in, const std::string& path) { return Reader(in, path).read(); }

Instance read_tsplib(const std::string& path) {
    std::ifstream in(path);
    if (!in) throw std::runtime_error(path + ": " + std::strerror(errno));
    return read_tsplib(in, path);
}

}  // namespace kernels
