#include "runtime/peer/program_files/file_habit.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "runtime/peer/program_files/line_text.h"

namespace ppdsm {

namespace {

std::string head_of(std::string_view rest) {
    return fmt::format("H {:016x}\n", XXH3_64bits(rest.data(), rest.size()));
}

}  // namespace

std::string FileHabit::encode() const {
    std::string text;
    for (const Entry& entry : entries) {
        text += fmt::format("{} {} {}\n", entry.kind == Kind::kList ? 'L' : 'F',
                            entry.file.to_string(), to_line_text(entry.path));
    }
    return head_of(text) + text;
}

FileHabit FileHabit::decode(std::string_view text) {
    FileHabit habit;
    const std::size_t head_bytes = text.find('\n') + 1;  // 0 when there is none.
    std::string_view rest = text.substr(head_bytes);
    if (text.substr(0, head_bytes) != head_of(rest)) return habit;
    for (std::size_t end = 0; (end = rest.find('\n')) != std::string_view::npos;) {
        std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end + 1);
        const std::string_view kind = take_word(line);
        const Result<FileId> id = FileId::parse(take_word(line));
        if (!id || habit.entries.size() >= kMostEntries) break;
        habit.entries.push_back(
            {kind == "L" ? Kind::kList : Kind::kContent, from_line_text(line), *id});
    }
    return habit;
}

}  // namespace ppdsm
