// Arguments and paths are bytes, JSON is UTF-8. Bytes travel as the code points 0-255.
#pragma once

#include <string>

namespace ppdsm {

[[nodiscard]] inline std::string bytes_to_utf8(const std::string& bytes) {
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80) {
            text += c;
        } else {
            text += static_cast<char>(0xC0 | (byte >> 6));
            text += static_cast<char>(0x80 | (byte & 0x3F));
        }
    }
    return text;
}

[[nodiscard]] inline std::string utf8_to_bytes(const std::string& text) {
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte < 0x80 || i + 1 == text.size()) {
            bytes += text[i];
        } else {
            const auto next = static_cast<unsigned char>(text[++i]);
            bytes += static_cast<char>(((byte & 0x03) << 6) | (next & 0x3F));
        }
    }
    return bytes;
}

}  // namespace ppdsm
