// Tries something in a child process, so that the namespaces it enters, the marks it clears and the
// crash it may cause are the child's. Forks: call it before starting threads.
#pragma once

#include <functional>
#include <string>

#include "dsm/base/result.h"

namespace ppdsm {

/// What a probe found. `detail`: in what way it is there, or why it is not.
struct ProbeResult {
    bool present = false;
    std::string detail;
};

/// Runs `probe` in a child and returns its answer; absent with the reason when the child dies or
/// takes longer than five seconds.
ProbeResult probe_in_child(const std::function<ProbeResult()>& probe);

/// "operation: the kernel's words", with errno as it is.
ProbeResult absent_errno(const std::string& operation);

}  // namespace ppdsm
