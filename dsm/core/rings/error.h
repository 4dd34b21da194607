// RingCodes as the rest of ppdsm's errors, for those who have strings.
#pragma once

#include "dsm/base/result.h"
#include "dsm/core/rings/ring_layout.h"

namespace ppdsm::rings {

[[nodiscard]] std::string_view ring_code_name(RingCode code);

/// kDone is success. `where` names the ring.
Status ring_status(RingCode code, std::string_view where);

}  // namespace ppdsm::rings
