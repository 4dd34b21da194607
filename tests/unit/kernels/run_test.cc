// Goal: the kernels, run plainly, answer right, the same for any number of workers, and refuse bad
// input. Method: the real programs at small sizes, each checking itself.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

namespace kernels {
namespace {

struct Outcome {
    int exit_code;
    std::string output;
};

/// Standard output alone, or with standard error among it.
Outcome run(const std::string& command_line, const std::string& errors = "2>/dev/null") {
    const std::string command =
        "cd '" + testing::TempDir() + "' && exec '" KERNELS_BIN "'/" + command_line + " " + errors;
    FILE* pipe = popen(command.c_str(), "re");
    if (pipe == nullptr) return {-1, "popen failed"};
    std::string output;
    std::array<char, 4096> buffer{};
    while (const std::size_t count = fread(buffer.data(), 1, buffer.size(), pipe))
        output.append(buffer.data(), count);
    const int status = pclose(pipe);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, output};
}

class EachKernel : public testing::TestWithParam<const char*> {};

TEST_P(EachKernel, AnswersRightAndTheSameForAnyNumberOfWorkers) {
    const std::string command_line = std::string(GetParam()) + " --check";
    const Outcome alone = run(command_line + " --workers 1");
    EXPECT_EQ(alone.exit_code, 0) << alone.output;
    EXPECT_NE(alone.output, "");
    for (const char* workers : {"2", "3", "8"}) {
        const Outcome spread = run(command_line + " --workers " + workers);
        EXPECT_EQ(spread.exit_code, 0) << spread.output;
        EXPECT_EQ(spread.output, alone.output) << workers;
    }
}
INSTANTIATE_TEST_SUITE_P(
    Plain, EachKernel,
    testing::Values("pi --size 1000000", "pi --size 5 --tasks 7", "nqueens --size 8",
                    "nqueens --size 9 --spawn-rows 2", "nqueens --size 3 --spawn-rows 4",
                    "mandelbrot --size 100 --tile 16 --iterations 200 --output kernels_a.png",
                    "mandelbrot --size 1 --output kernels_b.png", "life --size 40 --generations 30",
                    "life --size 3 --generations 5", "ga_tsp --size 10 --generations 200 --in-step",
                    "ga_tsp --size 60 --generations 60 --chunk 7 --in-step --islands 5",
                    "ga_tsp --file '" KERNELS_DATA "/burma14.tsp' --generations 200 --in-step"));

TEST(Kernels, TheSeedMatters) {
    for (const std::string kernel : {"pi --size 100000", "life --size 40 --generations 3",
                                     "ga_tsp --size 30 --in-step --generations 20"})
        EXPECT_NE(run(kernel + " --seed 1").output, run(kernel + " --seed 2").output) << kernel;
}

TEST(Kernels, IslandsThatPullFindTheShortestTour) {
    EXPECT_EQ(run("ga_tsp --size 10 --generations 200 --chunk 10 --check").exit_code, 0);
    EXPECT_EQ(run("ga_tsp --size 10 --generations 200 --islands 1 --check").exit_code, 0);
}

long long tour_length(const std::string& flags) {
    const Outcome outcome = run("ga_tsp --check " + flags);
    EXPECT_EQ(outcome.exit_code, 0) << flags;
    return std::stoll(outcome.output.substr(outcome.output.rfind(' ') + 1));
}

TEST(Kernels, IslandsGetAllTheGenerationsAndThatPays) {
    const auto length = [](const std::string& generations) {
        return tour_length("--size 100 --in-step --generations " + generations);
    };
    EXPECT_LT(length("200"), length("1"));
    EXPECT_LE(length("1"), length("0"));
}

TEST(Kernels, IslandsThatPullMayDifferButNeverEndLongerThanTheyBegan) {
    const std::string flags = "--size 100 --islands 3 --workers 2 --chunk 3 --generations ";
    const long long begun = tour_length(flags + "0");
    EXPECT_EQ(begun, tour_length(flags + "0 --in-step")) << "nobody has met anybody";
    for (int repeat = 0; repeat < 3; ++repeat) EXPECT_LE(tour_length(flags + "60"), begun);
    const std::string lonely = "--size 50 --generations 40 --islands 1";
    EXPECT_EQ(tour_length(lonely), tour_length(lonely)) << "one island meets itself only";
}

TEST(Kernels, ProgressGoesToStandardErrorAndIsComplete) {
    const std::string tiles =
        run("mandelbrot --size 64 --tile 16 --output kernels_c.png --progress", "2>&1 >/dev/null")
            .output;
    for (int tile = 1; tile <= 16; ++tile)
        EXPECT_NE(tiles.find("tile " + std::to_string(tile) + " of 16\n"), std::string::npos)
            << tiles;
    const std::string islands =
        run("ga_tsp --size 20 --islands 3 --generations 10 --chunk 5 --progress", "2>&1 >/dev/null")
            .output;
    EXPECT_NE(islands.find("island 2: "), std::string::npos) << islands;
}

TEST(Kernels, TheTourIsWrittenAsTsplibDoes) {
    const std::string path = testing::TempDir() + "kernels.tour";
    ASSERT_EQ(run("ga_tsp --size 3 --generations 1 --in-step --output '" + path + "'").exit_code,
              0);
    std::ifstream file(path);
    const std::string tour{std::istreambuf_iterator<char>(file), {}};
    EXPECT_TRUE(tour.starts_with("NAME: random3\nTYPE: TOUR\nCOMMENT: length ")) << tour;
    EXPECT_TRUE(tour.ends_with("\n-1\nEOF\n")) << tour;
}

TEST(Kernels, BadInputIsRefused) {
    for (const char* command_line :
         {"pi --size 0", "pi --workers 0", "pi --size many", "nqueens --size 99", "life --size 2",
          "life --generations -1", "life --size 40000", "mandelbrot --tile 0",
          "mandelbrot --extent 0", "mandelbrot --extent nan", "mandelbrot --centre-x inf",
          "ga_tsp --size 5000", "ga_tsp --what"})
        EXPECT_EQ(run(command_line).exit_code, 2) << command_line;

    const Outcome missing = run("ga_tsp --file nowhere.tsp", "2>&1");
    EXPECT_EQ(missing.exit_code, 1);
    EXPECT_EQ(missing.output, "ga_tsp: nowhere.tsp: No such file or directory\n");
    const Outcome unwritable = run("mandelbrot --size 4 --output /nonexistent/a.png", "2>&1");
    EXPECT_EQ(unwritable.exit_code, 1);
    EXPECT_EQ(unwritable.output,
              "mandelbrot: cannot write /nonexistent/a.png: No such file or directory\n");
    // Long before it is through with that.
    EXPECT_EQ(run("ga_tsp --size 4000 --generations 1000000 --output /nonexistent/b").exit_code, 1);
}

}  // namespace
}  // namespace kernels
