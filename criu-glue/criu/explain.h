// What CRIU's log means to the user: which resource cannot be checkpointed, and the way out.
#pragma once

#include <string>
#include <string_view>

#include "dsm/base/result.h"

namespace ppdsm {

/// The error's text is a first line and CRIU's log behind it. Returns one line: the resource named
/// ("fd 7: io_uring"), what to do; or CRIU's first error when the cause is unknown. A kUnsupported
/// whose cause is unknown becomes kUnavailable: it may be a process that ended under CRIU's hands,
/// and another try may succeed.
Error explain_criu_failure(const Error& error);

}  // namespace ppdsm
