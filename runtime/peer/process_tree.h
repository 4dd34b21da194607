// The processes of a running sandbox, as the host sees them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "dsm/base/owned_fd.h"

namespace ppdsm {

struct HostProcess {
    pid_t pid = 0;        ///< On the host.
    pid_t inner_pid = 0;  ///< In the sandbox.
    std::string command;  ///< Arguments, or the name in brackets for one without.
};

/// The host's number of the process that the pidfd holds; 0 when it is gone.
pid_t pid_of(const OwnedFd& pidfd);
/// `root` and all its descendants, parents first. Processes may end while we look.
std::vector<HostProcess> process_tree(pid_t root);
/// The program's root process: init's child with the lowest number inside; 0 when it has ended.
pid_t program_of(pid_t init);
/// Whether the program is dead, or was killed, and init is about to tell so. False for one that has
/// ended properly and left others behind.
bool is_program_lost(pid_t init);
/// What the tree holds in memory; what is shared counts for each.
std::uint64_t resident_bytes(pid_t root);
/// CPU time of the tree so far, with that of children that have ended and were waited for.
double cpu_seconds(pid_t root);
/// As a terminal or a shell does it. SIGTSTP stops what does not handle it, though the kernel
/// ignores that signal for a process group without a shell: ours has none inside.
void signal_group(pid_t leader, int signal);
/// Paths (inside the sandbox) of the files that a process of the tree has mapped shared and
/// writable.
std::vector<std::string> shared_writable_mappings(pid_t root);

}  // namespace ppdsm
