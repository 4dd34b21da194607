// Files that survive kill -9: whole reads and writes, replacement by rename, fsync where it counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

[[nodiscard]] inline ByteView as_bytes(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
[[nodiscard]] inline std::string_view as_text(ByteView bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// open(2) with O_CLOEXEC added. The error names the path.
Result<OwnedFd> open_file(const std::filesystem::path& path, int flags, unsigned mode = 0644);
/// openat(2) with O_CLOEXEC added.
Result<OwnedFd> open_file_at(const OwnedFd& dir, const std::filesystem::path& path, int flags,
                             unsigned mode = 0644);

/// Writes all of `data`, going on after short writes and EINTR.
Status write_all(const OwnedFd& fd, ByteView data);
Status write_all_at(const OwnedFd& fd, ByteView data, std::uint64_t offset_bytes);
/// Reads exactly into.size() bytes; fewer is Code::kCorrupt ("ends early").
Status read_exactly_at(const OwnedFd& fd, std::span<std::uint8_t> into, std::uint64_t offset_bytes);

/// Refuses files larger than `limit_bytes` (Code::kCorrupt): callers know how large a sound one is.
Result<Bytes> read_file(const std::filesystem::path& path,
                        std::uint64_t limit_bytes = std::uint64_t{1} << 32);
Result<std::string> read_text(const std::filesystem::path& path,
                              std::uint64_t limit_bytes = std::uint64_t{1} << 26);

Status sync_fd(const OwnedFd& fd);
/// fsync of a directory: makes creations, renames and removals in it durable.
Status sync_directory(const std::filesystem::path& directory);

/// After this returns, `path` holds all of `data`, durably; before, what it held. Never a mix.
Status replace_file(const std::filesystem::path& path, ByteView data, unsigned mode = 0644);

/// A file being written beside its final name. Removed unless commit() was called, except that a
/// killed process leaves "<name>.pending-<pid>": see remove_stale_pending().
class PendingFile {
public:
    static Result<PendingFile> create(const std::filesystem::path& final_path,
                                      unsigned mode = 0644);
    PendingFile(PendingFile&&) noexcept;
    PendingFile& operator=(PendingFile&&) = delete;
    PendingFile(const PendingFile&) = delete;
    PendingFile& operator=(const PendingFile&) = delete;
    ~PendingFile();

    [[nodiscard]] const OwnedFd& fd() const { return fd_; }
    /// fsync, rename to the final name, fsync of the directory.
    Status commit();

private:
    PendingFile(std::filesystem::path final_path, std::filesystem::path pending_path, OwnedFd fd);
    std::filesystem::path final_path_;
    std::filesystem::path pending_path_;  ///< Empty once committed or moved from.
    OwnedFd fd_;
};

/// Removes the "*.pending-*" that killed writers left. Only for the directory's sole writer.
Status remove_stale_pending(const std::filesystem::path& directory);

/// mkdir -p with this mode for the last component.
Status make_directories(const std::filesystem::path& path, unsigned mode = 0755);

/// rm -rf, also of our own directories whose mode forbids us to look into them: a program may leave
/// such, and overlay's work directory is one. Nobody else changes the tree meanwhile.
Status remove_tree(const std::filesystem::path& path);

}  // namespace ppdsm
