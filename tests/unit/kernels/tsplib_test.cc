// Goal: TSPLIB files are read as TSPLIB means them, and every bad one is refused with its line and
// the reason. Method: distances worked out by hand, burma14's published optimum, and files broken
// in one place each.
#include "kernels/ga_tsp/tsplib.h"

#include <gtest/gtest.h>

#include <sstream>
#include <stdexcept>

#include "kernels/ga_tsp/check_tour.h"

namespace kernels {
namespace {

Instance read(const std::string& text) {
    std::istringstream in(text);
    return read_tsplib(in, "x.tsp");
}

std::string refusal(const std::string& text) {
    try {
        read(text);
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return "it was read";
}

/// Three cities; the first two 3 and 4.6 apart along the axes.
std::string triangle(const std::string& metric) {
    return "NAME: t\nTYPE: TSP\nDIMENSION: 3\nEDGE_WEIGHT_TYPE: " + metric +
           "\nNODE_COORD_SECTION\n1 0 0\n2 3 4.6\n3 1.0e+01 0\nEOF\n";
}

std::int32_t first_distance(const std::string& text) { return Distances(read(text)).between(0, 1); }

TEST(Tsplib, RoundsDistancesAsEachTypeDoes) {
    EXPECT_EQ(first_distance(triangle("EUC_2D")), 5);  // 5.49
    EXPECT_EQ(first_distance(triangle("CEIL_2D")), 6);
    EXPECT_EQ(first_distance(triangle("MAN_2D")), 8);  // 7.6
    EXPECT_EQ(first_distance(triangle("MAX_2D")), 5);  // 4.6
    EXPECT_EQ(first_distance(triangle("ATT")), 2);     // sqrt(3.016) = 1.74, up
    // 4501 and 1443 along the axes: sqrt(2234125) = 1494.7
    EXPECT_EQ(
        first_distance(
            "TYPE: TSP (A. Somebody)\nDIMENSION: 3\nEDGE_WEIGHT_TYPE: ATT\nNODE_COORD_SECTION\n"
            "1 6734 1453\n2 2233 10\n3 5530 1424\n"),
        1495);
}

TEST(Tsplib, GeographicalDistancesGiveThePublishedOptimumOfBurma14) {
    const Instance burma = read_tsplib(KERNELS_DATA "/burma14.tsp");
    EXPECT_EQ(burma.name, "burma14");
    EXPECT_EQ(shortest_length(Distances(burma)), 3323);
}

TEST(Tsplib, ReadsEveryFormOfMatrix) {
    const auto with = [](const std::string& format, const std::string& numbers) {
        return "TYPE : TSP\nDIMENSION : 3\nEDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT : " +
               format + "\nEDGE_WEIGHT_SECTION\n" + numbers + "\nEOF\n";
    };
    for (const auto& text : {with("FULL_MATRIX", "0 1 2\n1 0 3\n2 3 0"), with("UPPER_ROW", "1 2 3"),
                             with("LOWER_ROW", "1\n2 3"), with("UPPER_DIAG_ROW", "0 1 2 0 3 0"),
                             with("LOWER_DIAG_ROW", "9999 1\n9999 2 3 9999")}) {
        const Distances distances(read(text));
        ASSERT_EQ(distances.cities(), 3U) << text;
        EXPECT_EQ(distances.between(0, 1), 1) << text;
        EXPECT_EQ(distances.between(2, 0), 2) << text;
        EXPECT_EQ(distances.between(1, 2), 3) << text;
    }
    EXPECT_EQ(refusal(with("FULL_MATRIX", "0 1 2\n1 0 3\n2 4 0")),
              "x.tsp:8: the distance from 3 to 2 differs from that back; only symmetric ones are "
              "supported");
    EXPECT_EQ(refusal(with("UPPER_COL", "1 2 3")),
              "x.tsp:5: EDGE_WEIGHT_FORMAT 'UPPER_COL' is not supported");
    EXPECT_EQ(refusal(with("UPPER_ROW", "1 two 3")), "x.tsp:6: 'two' is no distance");
    EXPECT_EQ(refusal(with("UPPER_ROW", "1 -2 3")), "x.tsp:6: '-2' is no distance");
    EXPECT_EQ(refusal(with("UPPER_ROW", "1 2")), "x.tsp:7: 'EOF' is no distance");
    EXPECT_EQ(refusal(with("UPPER_ROW", "1 2 3 4")), "x.tsp:6: '4' follows the last distance");
}

std::string changed(const std::string& from, const std::string& to) {
    std::string text = triangle("EUC_2D");
    text.replace(text.find(from), from.size(), to);
    return refusal(text);
}

TEST(Tsplib, NamesTheLineAndTheReasonOfABadFile) {
    EXPECT_EQ(changed("TYPE: TSP", "TYPE: ATSP"), "x.tsp:2: TYPE is ATSP; only TSP is supported");
    EXPECT_EQ(changed("DIMENSION: 3", "DIMENSION: many"),
              "x.tsp:3: DIMENSION is many; 3 to 4096 cities are supported");
    EXPECT_EQ(changed("DIMENSION: 3", "DIMENSION: 99999"),
              "x.tsp:3: DIMENSION is 99999; 3 to 4096 cities are supported");
    EXPECT_EQ(changed("DIMENSION: 3", "COMMENT: x"),
              "x.tsp:5: DIMENSION must come before NODE_COORD_SECTION");
    EXPECT_EQ(changed("DIMENSION: 3", "DIMENSION: 3\nDIMENSION: 4"),
              "x.tsp:4: DIMENSION comes twice");
    EXPECT_EQ(changed("EUC_2D", "XRAY1"), "x.tsp:4: EDGE_WEIGHT_TYPE XRAY1 is not supported");
    EXPECT_EQ(changed("EDGE_WEIGHT_TYPE: EUC_2D", "COMMENT: x"),
              "x.tsp:5: EDGE_WEIGHT_TYPE must come before NODE_COORD_SECTION");
    EXPECT_EQ(changed("NAME: t", "CAPACITY: 3"), "x.tsp:1: CAPACITY is not supported");
    EXPECT_EQ(changed("NAME: t", "PK\x03\x04"),
              "x.tsp:1: 'PK\x03\x04' is no keyword that is known here");
    EXPECT_EQ(changed("2 3 4.6", "2 3"),
              "x.tsp:7: '2 3' is no city: its number and two coordinates are expected");
    EXPECT_EQ(changed("2 3 4.6", "2 3 4.6 5"),
              "x.tsp:7: '2 3 4.6 5' is no city: its number and two coordinates are expected");
    EXPECT_EQ(changed("2 3 4.6", "2 3 nan"), "x.tsp:7: 'nan' is no coordinate");
    EXPECT_EQ(changed("2 3 4.6", "2 3 4e9"), "x.tsp:7: coordinate 4e9 is too large");
    EXPECT_EQ(changed("2 3 4.6", "4 3 4.6"), "x.tsp:7: '4' is no city's number");
    EXPECT_EQ(changed("2 3 4.6", "1 3 4.6"), "x.tsp:7: city 1 comes twice");
    EXPECT_EQ(changed("\n3 1.0e+01 0\nEOF\n", "\n"), "x.tsp:7: the file ends after 2 of 3 cities");
    EXPECT_EQ(changed("NODE_COORD_SECTION\n1 0 0\n2 3 4.6\n3 1.0e+01 0\n", ""),
              "x.tsp:5: the file ends without NODE_COORD_SECTION");
    EXPECT_EQ(changed("EUC_2D", "EXPLICIT"), "x.tsp:9: the file ends without EDGE_WEIGHT_SECTION");
}

TEST(Tsplib, AFileThatCannotBeReadIsNamed) {
    try {
        read_tsplib("/nonexistent/a.tsp");
        FAIL() << "it was read";
    } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "/nonexistent/a.tsp: No such file or directory");
    }
}

TEST(Tsplib, ADirectoryIsNoFile) { EXPECT_THROW(read_tsplib("/"), std::runtime_error); }

}  // namespace
}  // namespace kernels
