// A fingerprint of an answer that is too long to print.
#pragma once

#include <cstdint>
#include <vector>

namespace kernels {

/// FNV-1a, 64 bits.
inline std::uint64_t fingerprint(const std::vector<std::uint8_t>& bytes) {
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3U;
    return hash;
}

}  // namespace kernels
