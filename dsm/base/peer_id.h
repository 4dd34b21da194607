// The name of a peer: the beginning of the SHA-256 of its public key, so that who has the name can
// tell whether a key is its owner's.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "dsm/base/result.h"

namespace ppdsm {

struct PeerId {
    std::array<std::uint8_t, 20> bytes{};

    /// Eight groups of four base32 characters, for people to compare: "k3fq-7m2x-...".
    [[nodiscard]] std::string to_string() const;
    /// Its first two groups: enough to tell the peers of one mesh apart.
    [[nodiscard]] std::string brief() const { return to_string().substr(0, 9); }
    /// What to_string() gave; hyphens may be left out, capitals are as good. kInvalid otherwise.
    static Result<PeerId> parse(std::string_view text);
    [[nodiscard]] bool is_zero() const { return *this == PeerId{}; }

    auto operator<=>(const PeerId&) const = default;
};

/// An id is already uniform.
struct PeerIdHash {
    std::size_t operator()(const PeerId& id) const noexcept {
        std::size_t value = 0;
        std::memcpy(&value, id.bytes.data(), sizeof value);
        return value;
    }
};

}  // namespace ppdsm
