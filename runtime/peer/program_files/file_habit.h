// What a program of a kind was shown the last time, in the order in which it asked: to be got ready
// before it asks again. Text of lines, kept in the cache as a help:
//   H <checksum of the rest>
//   L <listing's FileId> <path>
//   F <content's FileId> <path>    holds as long as its directory's listing is the one above
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "criu-glue/sandbox/file_channel.h"
#include "runtime/peer/program_files/file_id.h"

namespace ppdsm {

struct FileHabit {
    using Kind = FileRequest::Kind;
    static constexpr std::size_t kMostEntries = 500;

    struct Entry {
        Kind kind = Kind::kList;
        std::string path;
        FileId file;
        bool operator==(const Entry&) const = default;
    };
    std::vector<Entry> entries;

    [[nodiscard]] std::string encode() const;
    /// Of anything that encode() did not give: an empty one.
    static FileHabit decode(std::string_view text);
};

}  // namespace ppdsm
