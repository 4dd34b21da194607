// abi::Backend over the link page.
#pragma once

#include "ppdsm/backend.h"

namespace ppdsm::preload {

extern const abi::Backend kBackend;

/// Runs the function that this process was started for, tells what it came to, and ends the
/// process.
[[noreturn]] void run_spawned();

}  // namespace ppdsm::preload
