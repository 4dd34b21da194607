// The file system that is the root of a sandbox: a FUSE mount, served by a process of ours that
// lives and dies with the warden. It shows what RootView says, refuses every write with EROFS, and
// notes by path what was asked for and not had. It is asked once for each name: the kernel keeps
// the answers, the negative ones too, for as long as the mount lives. It never waits for anybody
// but the host's file systems, so that CRIU may freeze the tree at any moment.
#pragma once

#include "criu-glue/sandbox/refusal_log.h"
#include "criu-glue/sandbox/root_view.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Name of the serving process (comm).
inline constexpr const char* kRootServerName = "ppdsm-root";

/// Mounts the file system at kTreeRoot, in the caller's mount and user namespace. The descriptor is
/// that to serve; when its last copy is closed, every use of the mount fails with ENOTCONN.
Result<OwnedFd> mount_root();

/// Serves until the mount is gone; the calling process then ends.
[[noreturn]] void serve_root(OwnedFd device, RootView view, RefusalLog log);

}  // namespace ppdsm
