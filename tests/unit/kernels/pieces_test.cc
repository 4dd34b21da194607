// Goal: what the farms hand out adds up to the whole, whatever the split, and the answers are the
// known ones.
#include <gtest/gtest.h>
#include <png.h>

#include <cstdio>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <vector>

#include "kernels/common/random.h"
#include "kernels/mandelbrot/picture.h"
#include "kernels/nqueens/board.h"
#include "kernels/pi/points.h"

namespace kernels {
namespace {

TEST(Random, IsSplitMix64) {
    // The first numbers of the reference implementation seeded with 1234567.
    EXPECT_EQ(random_at(1234567, 0), 6457827717110365317U);
    EXPECT_EQ(random_at(1234567, 1), 3203168211198807973U);
    EXPECT_EQ(random_at(1234567, 2), 9817491932198370423U);
}

TEST(Random, BelowReachesEveryValueAndNoOther) {
    RandomStream stream(3, 0);
    std::set<std::uint32_t> seen;
    for (int i = 0; i < 1000; ++i) seen.insert(stream.below(7));
    EXPECT_EQ(seen, (std::set<std::uint32_t>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(Random, StreamsOfASeedDiffer) {
    RandomStream one(3, 0);
    RandomStream other(3, 1);
    for (int i = 0; i < 100; ++i) EXPECT_NE(one.next(), other.next());
}

TEST(Pi, EverySplitCountsTheSame) {
    const std::uint64_t whole = count_in_circle(9, 0, 100'000);
    EXPECT_EQ(whole, count_in_circle(9, 0, 1) + count_in_circle(9, 1, 61'802) +
                         count_in_circle(9, 61'803, 38'197));
    EXPECT_NEAR(4.0 * static_cast<double>(whole) / 100'000, 3.14159, 0.03);
    EXPECT_NE(whole, count_in_circle(10, 0, 100'000));
}

TEST(Queens, CountsAreTheKnownOnes) {
    for (std::uint32_t size = 1; size <= 10; ++size)
        EXPECT_EQ(count_solutions(QueensBoard::empty(size)), kKnownSolutions[size]) << size;
}

TEST(Mandelbrot, KnownPointsEscapeOrStay) {
    // Three pixels on the real axis: -2 stays for ever, -1 too (period 2), 0.5 leaves after z =
    // 0.5, 0.75, 1.06, 1.63, 3.15.
    const auto at = [](double x) { return escape_times({x, 0, 0, 1, 100}, {0, 0, 1, 1}).front(); };
    EXPECT_EQ(at(-2), 100U);
    EXPECT_EQ(at(-1), 100U);
    EXPECT_EQ(at(0.5), 5U);
    EXPECT_EQ(at(3), 1U);
}

TEST(Mandelbrot, TilesMakeThePicture) {
    const View view{-0.75, 0, 3, 50, 64};
    Picture whole(50);
    whole.draw({0, 0, 50, 50}, escape_times(view, {0, 0, 50, 50}), 64);
    Picture tiled(50);
    const auto tiles = tiles_of(50, 16);
    EXPECT_EQ(tiles.size(), 16U);
    for (const Tile& tile : tiles) tiled.draw(tile, escape_times(view, tile), 64);
    EXPECT_EQ(tiled.bytes(), whole.bytes());
    EXPECT_NE(tiled.bytes(), Picture(50).bytes());
}

TEST(Mandelbrot, APngReadsBackAsItWas) {
    Picture picture(20);
    picture.draw({3, 4, 10, 10}, escape_times({-0.75, 0, 3, 20, 64}, {3, 4, 10, 10}), 64);
    const std::string path = testing::TempDir() + "kernels_picture.png";
    picture.write_png(path);

    png_image image = {};
    image.version = PNG_IMAGE_VERSION;
    ASSERT_NE(png_image_begin_read_from_file(&image, path.c_str()), 0) << image.message;
    image.format = PNG_FORMAT_RGB;
    std::vector<std::uint8_t> bytes(PNG_IMAGE_SIZE(image));
    ASSERT_NE(png_image_finish_read(&image, nullptr, bytes.data(), 0, nullptr), 0) << image.message;
    EXPECT_EQ(bytes, picture.bytes());
    std::filesystem::remove(path);
}

TEST(Mandelbrot, APictureThatCannotBeWrittenNamesThePath) {
    try {
        Picture(4).write_png("/nonexistent/picture.png");
        FAIL() << "it was written";
    } catch (const std::runtime_error& error) {
        EXPECT_NE(std::string(error.what()).find("/nonexistent/picture.png"), std::string::npos);
    }
}

}  // namespace
}  // namespace kernels
