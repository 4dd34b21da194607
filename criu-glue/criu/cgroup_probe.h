// Which control groups this process may make below its own, under version 1, 2 or both at once.
#pragma once

#include "criu-glue/criu/probe_child.h"

namespace ppdsm {

/// Makes and removes a group per hierarchy. Present when memory, cpu and a freezer can be had.
ProbeResult probe_cgroups();

}  // namespace ppdsm
