#include "dsm/base/peer_id.h"

#include <cctype>

namespace ppdsm {

namespace {

constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz234567";  // RFC 4648
constexpr unsigned kBitsPerDigit = 5;
constexpr std::size_t kGroupDigits = 4;

}  // namespace

std::string PeerId::to_string() const {
    std::string text;
    unsigned buffer = 0;
    unsigned bits = 0;
    std::size_t digits = 0;
    for (const std::uint8_t byte : bytes) {
        buffer = (buffer << 8) | byte;
        bits += 8;
        while (bits >= kBitsPerDigit) {
            bits -= kBitsPerDigit;
            if (digits > 0 && digits % kGroupDigits == 0) text += '-';
            text += kAlphabet[(buffer >> bits) & 31U];
            ++digits;
        }
    }
    return text;
}

Result<PeerId> PeerId::parse(std::string_view text) {
    PeerId id;
    std::size_t at = 0;
    unsigned buffer = 0;
    unsigned bits = 0;
    const auto refuse = [&] {
        return fail(Code::kInvalid,
                    "\"" + std::string(text) + "\" is no peer id (eight groups of four of a-z2-7)");
    };
    for (const char c : text) {
        if (c == '-') continue;
        const std::size_t digit =
            kAlphabet.find(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
        if (digit == std::string_view::npos || at == id.bytes.size()) return refuse();
        buffer = (buffer << kBitsPerDigit) | static_cast<unsigned>(digit);
        bits += kBitsPerDigit;
        if (bits < 8) continue;
        bits -= 8;
        id.bytes.at(at++) = static_cast<std::uint8_t>(buffer >> bits);
    }
    if (at != id.bytes.size() || bits != 0) return refuse();
    return id;
}

}  // namespace ppdsm
