// A copy of the harmless part of /etc: what programs need to find libraries, names and locales, and
// nothing that is secret or tells of this machine's services.
#pragma once

#include <filesystem>

#include "dsm/base/result.h"

namespace ppdsm {

/// The directory with the copy, made again when /etc's entries changed. Kept under `cache`.
Result<std::filesystem::path> harmless_etc(const std::filesystem::path& cache);

}  // namespace ppdsm
