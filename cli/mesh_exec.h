// Runs on the mesh, seen from a command: started through the daemon, watched, left alone, found
// again.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/peer/home.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

struct WatchOptions {
    std::string events;
    bool statistics = false;
    bool detach = false;
};

/// Whether a daemon serves this home.
bool is_daemon_there(const Home& home);
/// Has the daemon run it; returns the exit code, when it has ended or is detached.
Result<int> exec_on_mesh(const Home& home, const VcRecord& record, const WatchOptions& options);
/// Watches a run of the daemon's.
Result<int> attach_to_mesh(const Home& home, const VcPaths& paths, const WatchOptions& options);

}  // namespace ppdsm
