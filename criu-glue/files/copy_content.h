// Copies of a file's content by the cheapest way that the file systems offer: a reflink, a copy
// inside the kernel, a loop of reads and writes. Holes stay holes.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Fills `to` (empty, open for writing) with all of `from`; leaves both file offsets undefined. A
/// file that shrinks meanwhile gives a shorter copy.
Status copy_content(const OwnedFd& from, const OwnedFd& to);

/// Whether both files hold the same bytes.
Result<bool> same_bytes(const OwnedFd& a, const OwnedFd& b);

/// Opens a regular file for reading without following a symlink, without waiting should it have
/// become a fifo, and where permitted without moving its access time. The errno is set on failure.
OwnedFd open_regular(int directory_fd, const char* name);

/// The target of a symlink, of any length.
Result<std::string> read_link(int directory_fd, const char* name);

[[nodiscard]] inline std::int64_t nanoseconds(const struct timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace ppdsm
