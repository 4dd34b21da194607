#include "tests/sim/seeds.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>

namespace ppdsm::sim {
namespace {

std::optional<std::uint64_t> number_from(const char* variable) {
    const char* text = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe)
    if (!text || *text == '\0') return std::nullopt;
    return std::strtoull(text, nullptr, 10);
}

/// False when it failed.
bool run_one(std::uint64_t seed, const Scenario& scenario) {
    const bool failed_before = ::testing::Test::HasFailure();
    {
        SCOPED_TRACE("seed " + std::to_string(seed));
        scenario(seed);
    }
    if (failed_before || !::testing::Test::HasFailure()) return true;
    const ::testing::TestInfo& test = *::testing::UnitTest::GetInstance()->current_test_info();
    std::cerr << "seed " << seed << " fails; to replay it: PPDSM_SIM_SEED=" << seed << ' '
              << program_invocation_name << " --gtest_filter=" << test.test_suite_name() << '.'
              << test.name() << '\n';
    return false;
}

std::uint64_t run(const Scenario& scenario, const std::function<bool(std::uint64_t done)>& go_on) {
    if (const auto seed = number_from("PPDSM_SIM_SEED")) {
        run_one(*seed, scenario);
        return 1;
    }
    const std::uint64_t first = number_from("PPDSM_SIM_FIRST").value_or(1);
    std::uint64_t done = 0;
    while (go_on(done)) {
        if (!run_one(first + done++, scenario)) break;
    }
    return done;
}

}  // namespace

void for_seeds(std::uint64_t count, const Scenario& scenario) {
    run(scenario, [count](std::uint64_t done) { return done < count; });
}

std::uint64_t for_seeds_within(double seconds, const Scenario& scenario) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begun = Clock::now();
    if (const auto longer = number_from("PPDSM_SIM_SECONDS"))
        seconds = static_cast<double>(*longer);
    return run(scenario, [&](std::uint64_t done) {
        return done == 0 || std::chrono::duration<double>(Clock::now() - begun).count() < seconds;
    });
}

}  // namespace ppdsm::sim
