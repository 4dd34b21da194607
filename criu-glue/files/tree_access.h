// Steps through directory trees that others may have prepared: every component is opened relative
// to the directory before it and never through a symlink.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// One descriptor is held a level, so deeper trees are refused by name.
inline constexpr int kMaxTreeDepth = 512;

Result<OwnedFd> open_directory_at(int directory_fd, const char* name);
/// A second descriptor of the directory with an offset of its own.
Result<OwnedFd> reopen_directory(int directory_fd);

/// Calls `visit` with each name but "." and "..", in the file system's order. `buffer` is scratch
/// memory that may be reused when the call returns. The pointer lives until the next call.
Status for_each_name(int directory_fd, std::vector<char>& buffer,
                     const std::function<Status(const char*)>& visit);
Result<std::vector<std::string>> sorted_names(int directory_fd);

/// "a/b/c" -> directory of "a/b" below `root_fd`; nothing on the way may be a symlink.
Result<OwnedFd> open_parent_beneath(int root_fd, std::string_view path);
[[nodiscard]] std::string_view last_component(std::string_view path);
[[nodiscard]] std::string join_path(std::string_view directory, std::string_view name);

[[nodiscard]] Error too_deep(std::string_view path);

}  // namespace ppdsm
