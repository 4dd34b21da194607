// What CRIU would leave out of an ordinary user's checkpoint without an error. It may not follow
// /proc/PID/map_files then and guesses what is mapped by name (a memory file is taken for anonymous
// memory, shared memory is read where its first mapping lies), and System V objects belong to the
// ipc namespace, which is not the tree's own. Such a checkpoint must not come into being.
#pragma once

#include <string>

#include "dsm/base/result.h"

namespace ppdsm {

/// Looks at a tree that stands still. `proc`: a /proc that shows the tree's pid namespace, and
/// nothing but it. Code::kUnsupported names the first thing that would be lost.
Status find_unseen_state(const std::string& proc);

}  // namespace ppdsm
