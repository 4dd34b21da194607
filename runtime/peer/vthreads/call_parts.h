// Calls and answers in parts that fit into any message between executor, daemon and daemon.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "dsm/base/files.h"

namespace ppdsm {

inline constexpr std::size_t kCallPartBytes = std::size_t{48} << 10;

/// Adds "number", "offset" and "total" to each part's head.
void send_in_parts(const nlohmann::json& head, std::uint64_t number, ByteView whole,
                   const std::function<void(nlohmann::json head, Bytes part)>& send);

/// Puts the parts of one message after another together again.
class PartsReader {
public:
    struct Whole {
        std::uint64_t number = 0;
        Bytes bytes;
    };
    /// Of the last part: all of it. A first part begins anew; what does not go on from there is
    /// dropped. Throws what the JSON library throws.
    std::optional<Whole> take(const nlohmann::json& head, ByteView part);

private:
    Whole whole_;
};

}  // namespace ppdsm
