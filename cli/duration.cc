#include "cli/duration.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdlib>

namespace ppdsm {

namespace {

/// The number at the start of `text` and what follows it.
Result<std::pair<double, std::string>> split(const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end == text.c_str() || !std::isfinite(value) || value < 0) {
        return fail(Code::kInvalid, "\"" + text + "\" is not a number with a unit");
    }
    return std::pair(value, std::string(end));
}

}  // namespace

Result<std::int64_t> parse_duration(const std::string& text) {
    PPDSM_ASSIGN(const auto parts, split(text));
    const auto& [value, unit] = parts;
    double factor_ms = 0;
    if (unit.empty() || unit == "s") factor_ms = 1000;
    if (unit == "ms") factor_ms = 1;
    if (unit == "m" || unit == "min") factor_ms = 60'000;
    if (unit == "h") factor_ms = 3'600'000;
    if (unit == "d") factor_ms = 86'400'000;
    if (factor_ms == 0)
        return fail(Code::kInvalid, "\"" + text + "\": unknown unit; use ms, s, m, h or d");
    return static_cast<std::int64_t>(std::llround(value * factor_ms));
}

Result<std::uint64_t> parse_size(const std::string& text) {
    PPDSM_ASSIGN(const auto parts, split(text));
    std::string unit = parts.second;
    for (const char* suffix : {"iB", "B"}) {
        if (unit.ends_with(suffix)) unit.resize(unit.size() - std::string_view(suffix).size());
    }
    constexpr std::string_view kUnits = "KMGT";
    double factor = 1;
    if (!unit.empty()) {
        const std::size_t power = kUnits.find(static_cast<char>(std::toupper(unit[0])));
        if (unit.size() != 1 || power == std::string_view::npos) {
            return fail(Code::kInvalid, "\"" + text + "\": unknown unit; use K, M, G or T");
        }
        factor = std::pow(1024.0, static_cast<double>(power + 1));
    }
    return static_cast<std::uint64_t>(parts.first * factor);
}

std::string format_bytes(std::uint64_t bytes) {
    constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < kUnits.size()) {
        value /= 1024;
        ++unit;
    }
    return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace ppdsm
