// The mounts of a sandbox: first prepared one by one (by the warden, with its privileges), then put
// together by the sandbox's first process, or by CRIU when it restores. They are not prepared as
// one tree because a user namespace may not take a mount apart from those that were mounted on it.
#pragma once

#include <string>

#include "criu-glue/sandbox/spec.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Where the warden mounts the sandbox's root in its private mount namespace.
inline constexpr const char* kTreeRoot = "/run/ppdsm/root";

/// Where the owner's files are served to the warden, when home is elsewhere.
inline constexpr const char* kFilesMount = "/run/ppdsm/files";

/// Where the warden has prepared this mount.
std::string prepared_path(const SandboxMount& mount);

/// Where there is no FUSE: the skeleton itself, read-only, at kTreeRoot.
Status bind_skeleton(const SandboxSpec& spec);

/// Prepares every mount of the spec; the root is there already. Unprivileged: also puts them
/// together there, since the tree will share the caller's mount namespace.
Status prepare_mounts(const SandboxSpec& spec, bool privileged);

/// In the sandbox's own namespaces: puts the mounts together, makes them the root, mounts proc and
/// devpts, detaches the old root, enters the working directory.
Status enter_mounts(const SandboxSpec& spec);

/// The same for a tree in the warden's own mount namespace, where all but proc stands already: a
/// change of root, which a process without capabilities cannot leave.
Status enter_shared_mounts(const SandboxSpec& spec);

/// Mounts proc below kTreeRoot. It shows the pid namespace of the caller.
Status mount_tree_proc();

/// The device nodes that are bound from outside, as mounts of the spec.
std::vector<SandboxMount> device_mounts();

}  // namespace ppdsm
