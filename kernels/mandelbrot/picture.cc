#include "kernels/mandelbrot/picture.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace kernels {
namespace {

std::uint32_t escape_time(double cx, double cy, std::uint32_t iterations) {
    double x = 0;
    double y = 0;
    for (std::uint32_t time = 0; time < iterations; ++time) {
        const double xx = x * x;
        const double yy = y * y;
        if (xx + yy > 4) return time;
        y = 2 * x * y + cy;
        x = xx - yy + cx;
    }
    return iterations;
}

/// Black in the set; bands from blue to white outside, of a power of two so that they stay apart
/// when zoomed.
std::array<std::uint8_t, 3> colour(std::uint32_t time, std::uint32_t iterations) {
    if (time == iterations) return {0, 0, 0};
    const std::uint32_t shade = time % 64 * 4;
    const auto ramp = [&](std::uint32_t slope, std::uint32_t from) {
        return static_cast<std::uint8_t>(std::min<std::uint32_t>(255, from + shade * slope / 4));
    };
    return {ramp(2, 0), ramp(4, 16), ramp(5, 64)};
}

}  // namespace

std::vector<std::uint32_t> escape_times(const View& view, const Tile& tile) {
    const double pixel = view.extent / view.side_pixels;
    const double left = view.centre_x - view.extent / 2;
    const double top = view.centre_y + view.extent / 2;
    std::vector<std::uint32_t> times;
    times.reserve(std::size_t{tile.width} * tile.height);
    for (std::uint32_t y = tile.top; y < tile.top + tile.height; ++y) {
        for (std::uint32_t x = tile.left; x < tile.left + tile.width; ++x)
            times.push_back(escape_time(left + pixel * x, top - pixel * y, view.iterations));
    }
    return times;
}

std::vector<Tile> tiles_of(std::uint32_t side_pixels, std::uint32_t tile_pixels) {
    std::vector<Tile> tiles;
    for (std::uint32_t top = 0; top < side_pixels; top += tile_pixels) {
        for (std::uint32_t left = 0; left < side_pixels; left += tile_pixels)
            tiles.push_back({left, top, std::min(tile_pixels, side_pixels - left),
                             std::min(tile_pixels, side_pixels - top)});
    }
    return tiles;
}

Picture::Picture(std::uint32_t side_pixels)
    : side_pixels_(side_pixels), bytes_(std::size_t{3} * side_pixels * side_pixels) {}

void Picture::draw(const Tile& tile, const std::vector<std::uint32_t>& times,
                   std::uint32_t iterations) {
    auto time = times.begin();
    for (std::uint32_t y = tile.top; y < tile.top + tile.height; ++y) {
        for (std::uint32_t x = tile.left; x < tile.left + tile.width; ++x) {
            const auto rgb = colour(*time++, iterations);
            std::copy(rgb.begin(), rgb.end(),
                      bytes_.begin() + 3 * (std::ptrdiff_t{y} * side_pixels_ + x));
        }
    }
}

void Picture::write_png(const std::string& path) const {
    png_image image = {};
    image.version = PNG_IMAGE_VERSION;
    image.width = side_pixels_;
    image.height = side_pixels_;
    image.format = PNG_FORMAT_RGB;
    if (png_image_write_to_file(&image, path.c_str(), 0, bytes_.data(), 0, nullptr) == 0)
        throw std::runtime_error("cannot write " + path + ": " + image.message);
}

}  // namespace kernels
