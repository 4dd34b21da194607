#include "dsm/base/peer_id.h"

#include <algorithm>

#include "dsm/base/base32.h"

namespace ppdsm {

namespace {

constexpr std::size_t kGroupDigits = 4;

}  // namespace

std::string PeerId::to_string() const {
    std::string text = encode_base32(bytes);
    for (std::size_t at = text.size() - kGroupDigits; at > 0; at -= kGroupDigits) {
        text.insert(at, "-");
    }
    return text;
}

Result<PeerId> PeerId::parse(std::string_view text) {
    PeerId id;
    const Result<Bytes> decoded = decode_base32(text);
    if (!decoded || decoded->size() != id.bytes.size()) {
        return fail(Code::kInvalid,
                    "\"" + std::string(text) + "\" is no peer id (eight groups of four of a-z2-7)");
    }
    std::copy(decoded->begin(), decoded->end(), id.bytes.begin());
    return id;
}

}  // namespace ppdsm
