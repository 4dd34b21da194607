// What a generation was made on, for deciding where it may be restored.
#pragma once

#include "criu-glue/manifest/manifest.h"

namespace ppdsm {

/// This machine's kernel and CPU, and the CRIU that will be used.
HostRecord describe_host(std::string criu_version);

}  // namespace ppdsm
