// What every kernel's command line has in common, and how its main ends.
//
// The answer goes to standard output and is the same whenever the flags are; time and progress,
// which differ from run to run, go to standard error.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace kernels {

struct CommonFlags {
    std::uint64_t size = 0;
    unsigned workers = 4;
    std::uint64_t seed = 1;
    bool check = false;
};

/// The answer is wrong; what() says how.
class WrongAnswer : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// What a check is made of: throws WrongAnswer unless `holds`.
inline void expect(bool holds, const std::string& otherwise) {
    if (!holds) throw WrongAnswer(otherwise);
}

/// Throws std::system_error that names the path unless it can be written, so that this is known
/// before the work is done. Makes an empty file where there was none.
void require_writable(const std::string& path);

/// For flags that are finite numbers, and more than `least`.
CLI::Validator finite_above(double least);

class Command {
public:
    /// `summary` opens the help; `size` says what --size counts, `sizes` which are allowed.
    Command(const std::string& name, const std::string& summary);

    struct Sizes {
        std::string what;
        std::uint64_t least;
        std::uint64_t most;
        std::uint64_t usual;
    };
    /// Adds --size, --workers, --seed and --check.
    void add_common(CommonFlags& flags, const Sizes& sizes);

    /// For the kernel's own flags.
    CLI::App& app() { return app_; }

    /// Parses, calls `solve`, says how long that took. The exit code: 0; 1 with what went wrong on
    /// standard error; 2 when the command line was wrong.
    int run(int argc, const char* const* argv, const std::function<void()>& solve);

private:
    CLI::App app_;
};

}  // namespace kernels
