#include "kernels/common/command.h"

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <system_error>

namespace kernels {

void require_writable(const std::string& path) {
    if (!std::ofstream(path, std::ios::app))
        throw std::system_error(errno, std::generic_category(), "cannot write " + path);
}

CLI::Validator finite_above(double least) {
    return {[least](const std::string& text) {
                double value = 0;
                if (!CLI::detail::lexical_cast(text, value)) return text + " is no number";
                if (!std::isfinite(value)) return text + " is not finite";
                return value > least ? std::string() : text + " is too small";
            },
            std::string()};
}

Command::Command(const std::string& name, const std::string& summary) : app_(summary, name) {
    app_.option_defaults()->always_capture_default();
}

void Command::add_common(CommonFlags& flags, const Sizes& sizes) {
    flags.size = sizes.usual;
    app_.add_option("--size", flags.size, sizes.what)->check(CLI::Range(sizes.least, sizes.most));
    app_.add_option("--workers", flags.workers, "Peers to work on")->check(CLI::Range(1, 1024));
    app_.add_option("--seed", flags.seed, "Of the random numbers");
    app_.add_flag("--check", flags.check, "Check the answer; exit with 1 if it is wrong");
}

int Command::run(int argc, const char* const* argv, const std::function<void()>& solve) {
    try {
        app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app_.exit(error) == 0 ? 0 : 2;
    }
    const auto started = std::chrono::steady_clock::now();
    try {
        solve();
    } catch (const WrongAnswer& wrong) {
        std::fprintf(stderr, "%s: WRONG: %s\n", app_.get_name().c_str(), wrong.what());
        return 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", app_.get_name().c_str(), error.what());
        return 1;
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    std::fprintf(stderr, "%s: %.3f s\n", app_.get_name().c_str(), elapsed.count());
    return 0;
}

}  // namespace kernels
