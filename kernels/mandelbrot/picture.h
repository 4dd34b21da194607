// The Mandelbrot set, tile by tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kernels {

/// A rectangle of pixels.
struct Tile {
    std::uint32_t left;
    std::uint32_t top;
    std::uint32_t width;
    std::uint32_t height;
};

/// Which square part of the plane the picture shows, and how finely.
struct View {
    double centre_x;
    double centre_y;
    double extent;  ///< Of the picture's sides, in the plane.
    std::uint32_t side_pixels;
    std::uint32_t iterations;  ///< After so many a point is taken to be in the set.
};

/// After how many iterations each pixel of the tile leaves the circle of radius 2, row after row;
/// view.iterations where it does not. Of two machines with one binary both say the same.
std::vector<std::uint32_t> escape_times(const View& view, const Tile& tile);

/// The tiles that cover a picture, row after row.
std::vector<Tile> tiles_of(std::uint32_t side_pixels, std::uint32_t tile_pixels);

/// Three bytes a pixel, row after row.
class Picture {
public:
    explicit Picture(std::uint32_t side_pixels);

    /// Colours one tile.
    void draw(const Tile& tile, const std::vector<std::uint32_t>& times, std::uint32_t iterations);
    /// Throws std::system_error or std::runtime_error that name the path.
    void write_png(const std::string& path) const;
    [[nodiscard]] const std::vector<std::uint8_t>& bytes() const { return bytes_; }

private:
    std::uint32_t side_pixels_;
    std::vector<std::uint8_t> bytes_;
};

}  // namespace kernels
