// What the peer's cache knows of other peers' paths: which listing and which content was seen
// there. A help only: it saves asking again for what is here already. A log of lines, appended to
// from the pool, read at the start and written anew when most of it is outdated.
//   L <owner> <listing's FileId> <path>
//   C <owner> <size> <mtime ns> <ctime ns> <content's FileId> <path>
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "dsm/io/loop.h"
#include "runtime/peer/program_files/file_source.h"

namespace ppdsm {

class PathIndex {
public:
    static Result<std::unique_ptr<PathIndex>> open(Loop& loop, const std::filesystem::path& file);

    [[nodiscard]] std::optional<FileId> listing(const std::string& owner,
                                                const std::string& path) const;
    void put_listing(const std::string& owner, const std::string& path, FileId listing);
    [[nodiscard]] std::optional<FileId> content(const std::string& owner, const std::string& path,
                                                const FileVersion& version) const;
    void put_content(const std::string& owner, const std::string& path, const FileVersion& version,
                     FileId content);

private:
    using Key = std::pair<std::string, std::string>;
    /// The file, and what is to be appended to it by the job under way.
    struct Log;

    PathIndex(Loop& loop, std::shared_ptr<Log> log) : loop_(loop), log_(std::move(log)) {}
    void take_line(std::string_view line);
    [[nodiscard]] std::string all_lines() const;
    void append(std::string line);

    Loop& loop_;
    std::shared_ptr<Log> log_;
    std::map<Key, FileId> listings_;
    std::map<Key, std::pair<FileVersion, FileId>> contents_;
};

}  // namespace ppdsm
