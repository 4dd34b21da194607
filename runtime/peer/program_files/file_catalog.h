// Which listings and contents one virtual computer has been shown, by path: what it sees once, it
// sees for its whole life, wherever it goes on. An append-only file beside the VC, so that a copy
// on another peer is brought up to date by the bytes it lacks. A line each:
//   L <listing's FileId> <path>
//   F <content's FileId> <size> <path>
// A path's line feeds and backslashes are written as "\n" and "\\". A line that is cut short ends
// it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"
#include "runtime/peer/program_files/file_id.h"

namespace ppdsm {

class FileCatalog {
public:
    /// Reads what is there; a torn end is cut off.
    static Result<FileCatalog> open(const std::filesystem::path& file);

    [[nodiscard]] std::optional<FileId> listing(const std::string& path) const;
    [[nodiscard]] std::optional<FileId> content(const std::string& path) const;
    /// A path that has one already keeps it.
    Status add_listing(const std::string& path, FileId listing);
    Status add_content(const std::string& path, FileId content, std::uint64_t size_bytes);

    /// Every content named, listings included, each once: what a replica must hold.
    [[nodiscard]] std::vector<FileId> contents() const;
    [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }
    /// The file's bytes from there on, for a copy elsewhere that has so many.
    [[nodiscard]] Result<Bytes> bytes_from(std::uint64_t offset_bytes) const;
    /// A copy's side. kInvalid: not the continuation of what is here.
    Status append_bytes(std::uint64_t offset_bytes, ByteView bytes);
    /// Durable when it returns. Blocks.
    Status sync() const;

private:
    FileCatalog(std::filesystem::path path, OwnedFd file)
        : path_(std::move(path)), file_(std::move(file)) {}
    struct Lines {
        std::size_t size_bytes = 0;
        std::unordered_map<std::string, FileId> listings;
        std::unordered_map<std::string, FileId> contents;
    };
    [[nodiscard]] Result<Lines> read_lines(std::string_view text) const;
    void take(Lines lines);
    Status append(const std::string& line);

    std::filesystem::path path_;
    OwnedFd file_;
    std::uint64_t size_bytes_ = 0;
    std::unordered_map<std::string, FileId> listings_;
    std::unordered_map<std::string, FileId> contents_;
};

}  // namespace ppdsm
