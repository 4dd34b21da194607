// The name of a chunk: the XXH3-128 of its bytes. Equal names are taken for equal bytes.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <string>

#include "dsm/base/files.h"

namespace ppdsm {

struct ChunkId {
    std::array<std::uint8_t, 16> bytes{};

    /// XXH3-128, canonical (big-endian) representation.
    [[nodiscard]] static ChunkId of(ByteView content);
    /// 32 hexadecimal digits.
    [[nodiscard]] std::string to_string() const;

    auto operator<=>(const ChunkId&) const = default;
};

/// A chunk's name is already uniform, so its first bytes serve as hash.
struct ChunkIdHash {
    std::size_t operator()(const ChunkId& id) const noexcept {
        std::size_t value = 0;
        std::memcpy(&value, id.bytes.data(), sizeof value);
        return value;
    }
};

}  // namespace ppdsm
