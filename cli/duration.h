// Durations and sizes as people write them: "500ms", "10s", "2m", "1h"; "64M", "2G".
#pragma once

#include <cstdint>
#include <string>

#include "dsm/base/result.h"

namespace ppdsm {

/// Milliseconds. A bare number is seconds.
Result<std::int64_t> parse_duration(const std::string& text);
/// Bytes. K, M, G, T are powers of 1024; a bare number is bytes.
Result<std::uint64_t> parse_size(const std::string& text);
std::string format_bytes(std::uint64_t bytes);

}  // namespace ppdsm
