#include "dsm/base/base32.h"

#include <cctype>

namespace ppdsm {

namespace {

constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz234567";

}  // namespace

std::string encode_base32(ByteView bytes) {
    std::string text;
    unsigned buffer = 0;
    unsigned bits = 0;
    for (const std::uint8_t byte : bytes) {
        buffer = (buffer << 8) | byte;
        for (bits += 8; bits >= 5; bits -= 5) text += kAlphabet[(buffer >> (bits - 5)) & 31U];
    }
    if (bits > 0) text += kAlphabet[(buffer << (5 - bits)) & 31U];
    return text;
}

Result<Bytes> decode_base32(std::string_view text) {
    Bytes bytes;
    unsigned buffer = 0;
    unsigned bits = 0;
    for (const char c : text) {
        if (c == '-' || std::isspace(static_cast<unsigned char>(c)) != 0) continue;
        const std::size_t digit =
            kAlphabet.find(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
        if (digit == std::string_view::npos) {
            return fail(Code::kInvalid, std::string("'") + c + "' does not belong there");
        }
        buffer = (buffer << 5) | static_cast<unsigned>(digit);
        bits += 5;
        if (bits < 8) continue;
        bits -= 8;
        bytes.push_back(static_cast<std::uint8_t>(buffer >> bits));
    }
    // What is left over is less than a digit and zero.
    if (bits >= 5 || (buffer & ((1U << bits) - 1U)) != 0) {
        return fail(Code::kInvalid, "it is not complete");
    }
    return bytes;
}

}  // namespace ppdsm
