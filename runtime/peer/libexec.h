// Where the programs lie that ppdsm starts for itself.
#pragma once

#include <filesystem>

#include "dsm/base/result.h"

namespace ppdsm {

/// The directory of ppdsm-warden, ppdsm-init and the others, found from our own executable.
Result<std::filesystem::path> find_libexec();

}  // namespace ppdsm
