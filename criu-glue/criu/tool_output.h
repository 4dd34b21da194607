// Runs a short-lived tool and collects what it says. For questions ("criu --version"), not for
// work.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "dsm/base/result.h"

namespace ppdsm {

struct ToolOutput {
    int exit_code = 0;   ///< As a shell has it: 128+n after signal n.
    std::string output;  ///< Standard output and error, together; at most 64 KiB of it.
};

/// Runs `command` (first word looked up in PATH) with /dev/null as input, in a process group of its
/// own, which is killed when `limit` has passed (Code::kUnavailable then). Code::kNotFound when
/// there is no such program.
Result<ToolOutput> run_tool(const std::vector<std::string>& command,
                            std::chrono::milliseconds limit);

}  // namespace ppdsm
