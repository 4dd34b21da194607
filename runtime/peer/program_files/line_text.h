// Paths in files of lines: line feeds and backslashes are written as "\n" and "\\".
#pragma once

#include <string>
#include <string_view>

namespace ppdsm {

[[nodiscard]] inline std::string to_line_text(std::string_view path) {
    std::string text;
    for (const char c : path) {
        if (c == '\n') {
            text += "\\n";
        } else if (c == '\\') {
            text += "\\\\";
        } else {
            text += c;
        }
    }
    return text;
}

[[nodiscard]] inline std::string from_line_text(std::string_view text) {
    std::string path;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 1 == text.size()) {
            path += text[i];
        } else {
            path += text[++i] == 'n' ? '\n' : text[i];
        }
    }
    return path;
}

/// Takes the first word off `line`, with the space behind it.
[[nodiscard]] inline std::string_view take_word(std::string_view& line) {
    const std::size_t end = line.find(' ');
    const std::string_view word = line.substr(0, end);
    line = end == std::string_view::npos ? std::string_view() : line.substr(end + 1);
    return word;
}

}  // namespace ppdsm
