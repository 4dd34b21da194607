// What a program asked for and did not get, said so that its user can give it next time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "criu-glue/sandbox/refusal_log.h"

namespace ppdsm {

/// What the advice depends on.
struct Advice {
    std::uint32_t uid = 0;      ///< Whose run it was: his whole home directory is not advised.
    std::filesystem::path log;  ///< Where all paths are, for the lines that are left out.
};

/// Lines for people, without an end of line; none when nothing was refused. At most ten paths or
/// directories are named for each kind: those of one directory together when there are several.
/// Looks at home for the directory that a refused write would need.
std::vector<std::string> describe_refusals(const Refusals& refusals, const Advice& advice);

}  // namespace ppdsm
