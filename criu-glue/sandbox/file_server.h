// The file system that shows a program its owner's files on a peer that has none of them: a FUSE
// mount, read-only, served by a process of ours that lives and dies with the warden. Every exposure
// and every overlay's lower directory is mounted from it.
//
// What it shows comes over a channel (file_channel.h): a listing once for each directory, from
// which all lookups, failing ones too, are answered; a content once for each file that is read, as
// the descriptor of a complete local file. The kernel keeps all answers for as long as the mount
// lives, and opening a file costs no question at all. Whoever waits for the channel waits alone:
// requests are answered in the order in which what they need is here.
//
// What cannot be had is EIO, noted with the reason in the refusals log, and may be asked for again.
#pragma once

#include <string>
#include <vector>

#include "criu-glue/sandbox/refusal_log.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Name of the serving process (comm).
inline constexpr const char* kFileServerName = "ppdsm-files";

struct FileMount {
    OwnedFd device;  ///< To serve; when its last copy is closed, every use of the mount fails.
    std::string read_ahead;  ///< The kernel's setting for it, a path; empty: none is known.
};

/// Mounts the file system at `path` (kFilesMount), in the caller's mount and user namespace.
Result<FileMount> mount_files(const std::string& path);

/// Serves until the mount is gone; the calling process then ends. `channel`: a SOCK_SEQPACKET
/// socket; when its other end is gone, what is here is still served.
[[noreturn]] void serve_files(FileMount mount, OwnedFd channel,
                              const std::vector<std::string>& roots, RefusalLog log);

}  // namespace ppdsm
