// Whether a generation can be restored on this machine, found out before CRIU is asked.
#pragma once

#include <string>
#include <vector>

#include "criu-glue/manifest/manifest.h"
#include "runtime/peer/stored_images.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

struct Mismatch {
    std::string what;    ///< "cpu", "machine", "path", "file", "criu"
    std::string detail;  ///< What differs, and what to do.
    bool fatal = true;   ///< A restore would fail or the program could crash.
};

/// Features that the generation's CPU had and `here` lacks. CRIU compares them only when told, and
/// a library that chose its code by them would crash.
std::vector<std::string> missing_cpu_features(const HostRecord& there, const HostRecord& here);

/// Every mismatch there is, none when a restore should succeed.
Result<std::vector<Mismatch>> check_restore(StoredImages& images, const VcRecord& record,
                                            const HostRecord& here);

}  // namespace ppdsm
