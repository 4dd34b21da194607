// What the owner's files hashed to when they were last read, so that a file which has not changed
// is not read again. Kept in one file of the home's cache: appended to, written anew when it has
// grown, never synced; what a power cut left of it is checked record by record and believed as far
// as sound.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"
#include "runtime/peer/program_files/file_id.h"

struct stat;

namespace ppdsm {

/// May be used by several threads at once.
class ContentHashes {
public:
    /// `file` need not be there. One process at a time: kUnavailable otherwise.
    static Result<std::shared_ptr<ContentHashes>> open(const std::filesystem::path& file);

    [[nodiscard]] std::optional<FileLayout> find(const struct stat& info) const;
    /// `info`: as it was before and after reading.
    void put(const struct stat& info, const FileLayout& layout);

    /// Whether a change from now on must show in ctime: the file is older than the clock's grain.
    static bool is_settled(const struct stat& info);

private:
    struct Key {
        std::uint64_t device, inode, size_bytes;
        std::int64_t mtime_ns, ctime_ns;
        bool operator==(const Key&) const = default;
    };
    struct KeyHash {
        std::size_t operator()(const Key& key) const noexcept;
    };
    static Key key_of(const struct stat& info);

    ContentHashes(std::filesystem::path path, OwnedFd file)
        : path_(std::move(path)), file_(std::move(file)) {}
    Status load();
    Status append(const Key& key, const FileLayout& layout);

    mutable std::mutex mutex_;
    std::filesystem::path path_;
    OwnedFd file_;
    std::unordered_map<Key, FileLayout, KeyHash> layouts_;
};

}  // namespace ppdsm
