// Tries namespaces, and the file systems that a sandbox mounts in them. Each runs in a child, whose
// mounts end with it.
#pragma once

#include "criu-glue/criu/probe_child.h"

namespace ppdsm {

/// A user namespace in which we are root.
ProbeResult probe_user_namespace();
/// The sandbox's pid, mount, ipc, uts and net namespaces: directly for root, else in a user
/// namespace.
ProbeResult probe_sandbox_namespaces();
/// A time namespace with a shifted monotonic clock.
ProbeResult probe_time_namespace();
/// An overlay with an upper layer on tmpfs, mounted in a user namespace and written to.
ProbeResult probe_overlay_in_user_namespace();
/// A FUSE file system, mounted (in a user namespace unless root).
ProbeResult probe_fuse();

}  // namespace ppdsm
