// The Mandelbrot set as a PNG: partial results. Virtual threads report each tile when it is done,
// and it is drawn as it comes.
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "kernels/common/command.h"
#include "kernels/common/hash.h"
#include "kernels/mandelbrot/picture.h"
#include "ppdsm/ppdsm.h"

namespace kernels {
namespace {

struct MandelbrotFlags : CommonFlags {
    View view{-0.75, 0, 3, 0, 1000};
    std::uint32_t tile_pixels = 64;
    std::string output = "mandelbrot.png";
    bool progress = false;
};

struct FinishedTile {
    Tile tile;
    std::vector<std::uint32_t> times;

    template <class Archive>
    void serialize(Archive& archive) {
        archive(tile, times);
    }
};

void compute_tiles(const View& view, const std::vector<Tile>& tiles) {
    for (const Tile& tile : tiles)
        ppdsm::self().report(FinishedTile{tile, escape_times(view, tile)});
}

/// Every so-manyth tile for each: neighbours cost about the same, so the shares do, too.
std::vector<std::vector<Tile>> deal(const std::vector<Tile>& tiles, std::size_t hands) {
    std::vector<std::vector<Tile>> dealt(hands);
    for (std::size_t i = 0; i < tiles.size(); ++i) dealt[i % hands].push_back(tiles[i]);
    return dealt;
}

Picture draw_on_mesh(const MandelbrotFlags& flags) {
    const auto tiles = tiles_of(flags.view.side_pixels, flags.tile_pixels);
    Picture picture(flags.view.side_pixels);
    std::size_t drawn = 0;
    const auto draw = [&](const FinishedTile& finished) {
        picture.draw(finished.tile, finished.times, flags.view.iterations);
        ++drawn;
        if (flags.progress) std::fprintf(stderr, "tile %zu of %zu\n", drawn, tiles.size());
    };

    ppdsm::VirtualComputer computer({.workers = flags.workers});
    std::vector<ppdsm::VirtualThread<void>> painters;
    for (const auto& hand : deal(tiles, flags.workers)) {
        painters.push_back(computer.spawn(compute_tiles, flags.view, hand));
        painters.back().on_partial<FinishedTile>(draw);
    }
    ppdsm::when_all(painters);
    expect(drawn == tiles.size(),
           std::to_string(drawn) + " of " + std::to_string(tiles.size()) + " tiles came");
    return picture;
}

std::uint64_t fingerprint_alone(const View& view) {
    const Tile all{0, 0, view.side_pixels, view.side_pixels};
    Picture picture(view.side_pixels);
    picture.draw(all, escape_times(view, all), view.iterations);
    return fingerprint(picture.bytes());
}

void solve(MandelbrotFlags flags) {
    flags.view.side_pixels = static_cast<std::uint32_t>(flags.size);
    require_writable(flags.output);
    const Picture picture = draw_on_mesh(flags);
    picture.write_png(flags.output);
    const std::uint64_t print = fingerprint(picture.bytes());
    std::printf("%s: %u pixels a side, fingerprint %016llx\n", flags.output.c_str(),
                flags.view.side_pixels, static_cast<unsigned long long>(print));
    if (flags.check)
        expect(print == fingerprint_alone(flags.view), "one thread draws another picture");
}

}  // namespace
}  // namespace kernels

int main(int argc, char** argv) {
    kernels::MandelbrotFlags flags;
    kernels::Command command("mandelbrot", "The Mandelbrot set as a PNG: partial results");
    command.add_common(flags, {"Pixels a side", 1, 32768, 1024});
    command.app()
        .add_option("--iterations", flags.view.iterations, "Until a point counts as in the set")
        ->check(CLI::Range(1, 100'000'000));
    const auto finite = kernels::finite_above(std::numeric_limits<double>::lowest());
    command.app()
        .add_option("--centre-x", flags.view.centre_x, "Of the picture, in the plane")
        ->check(finite);
    command.app()
        .add_option("--centre-y", flags.view.centre_y, "Of the picture, in the plane")
        ->check(finite);
    command.app()
        .add_option("--extent", flags.view.extent, "Of the picture's sides, in the plane")
        ->check(kernels::finite_above(0));
    command.app()
        .add_option("--tile", flags.tile_pixels, "Pixels of a tile's sides")
        ->check(CLI::Range(1, 4096));
    command.app().add_option("--output", flags.output, "The picture's file");
    command.app().add_flag("--progress", flags.progress,
                           "Say which tiles are drawn, on standard error");
    return command.run(argc, argv, [&] { kernels::solve(flags); });
}
