// Starting the sandbox's first process in namespaces of its own.
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

/// Enters new user, pid, mount, ipc and uts namespaces, the mounts of the spec, and executes init
/// with the program. `stdio`: three descriptors for the program (ignored for a terminal).
Result<LaunchedTree> launch_tree(const SandboxSpec& spec, const std::vector<OwnedFd>& stdio,
                                 bool privileged);

}  // namespace ppdsm
