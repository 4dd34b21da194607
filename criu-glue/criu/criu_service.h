// One CRIU run, driven over its service protocol (`criu swrk`), so that we are called back at the
// moment when the tree is dumped and still frozen. Blocking; used by the warden, never by a uv
// loop.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

struct CriuOptions {
    std::vector<std::string> command;  ///< How to start CRIU.
    int images_fd = -1;  ///< Directory of the images; the log "criu.log" goes there too.
    std::string root;    ///< Root of the tree's mount namespace, as CRIU sees it.
    std::vector<std::string> external;
    std::vector<std::pair<std::string, int>> inherit_fds;  ///< Restore only.
    std::vector<std::string> cgroups;  ///< CRIU enters these before it starts (restore only).
    bool orphan_terminal = false;
    bool unprivileged = false;  ///< By an ordinary user, who has every capability where he is.
};

struct CriuEvent {
    std::string name;  ///< "post-dump", "setup-namespaces", "orphan-pts-master" ...
    OwnedFd fd;        ///< What came along, if anything.
    pid_t tree = 0;    ///< The root of the tree that is restored, where CRIU tells.
};

/// Called for each of CRIU's notifications. False makes CRIU fail and undo.
using CriuNotify = std::function<bool(CriuEvent event)>;

/// Dumps the tree of `pid`; leaves it running, also when the dump fails. `notify("post-dump")` runs
/// while the tree is frozen. Code::kUnavailable: CRIU died, and the tree, with CRIU's code inside
/// it, is in no state to run on.
Status criu_dump(const CriuOptions& options, pid_t pid, const CriuNotify& notify);

/// Restores the tree, which then runs as our child or, through reparenting, our pid namespace's
/// init's. Returns its root's pid in our pid namespace.
Result<pid_t> criu_restore(const CriuOptions& options, const CriuNotify& notify);

/// Name of CRIU's log in the image directory.
inline constexpr const char* kCriuLogName = "criu.log";

}  // namespace ppdsm
