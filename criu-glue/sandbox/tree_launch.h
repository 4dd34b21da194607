// Starting the sandbox's first process in namespaces of its own.
//
// Root's tree has all of its own and CRIU keeps them. An ordinary user's has a pid namespace only
// and shares the others with the warden: without root the kernel does not let CRIU follow a
// process's mappings (/proc/PID/map_files), so that it opens mapped files by their paths, and those
// must mean the same to both; nor may it set a nested namespace's ids, host name and limits.
#pragma once

#include <sys/types.h>

#include <vector>

#include "criu-glue/sandbox/spec.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

struct LaunchedTree {
    pid_t init = 0;    ///< In our pid namespace; our child.
    OwnedFd terminal;  ///< The pty's master, when the spec asks for a terminal.
};

/// Enters the tree's namespaces, the mounts of the spec, and executes init with the program.
/// `stdio`: three descriptors for the program (ignored for a terminal).
Result<LaunchedTree> launch_tree(const SandboxSpec& spec, const std::vector<OwnedFd>& stdio,
                                 bool privileged);

/// What CRIU leaves to us in the restore of an ordinary user's tree: proc, for the pid namespace
/// that CRIU has just made. `init`: the process in it.
Status prepare_shared_restore(pid_t init);

}  // namespace ppdsm
