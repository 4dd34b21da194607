// The two clocks, for those at the edge. Pure rooms get the time in their events instead.
#pragma once

#include <chrono>
#include <cstdint>

namespace ppdsm {

[[nodiscard]] inline std::int64_t unix_now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}
[[nodiscard]] inline std::int64_t unix_now_ms() { return unix_now_ns() / 1'000'000; }
[[nodiscard]] inline std::int64_t monotonic_now_us() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace ppdsm
