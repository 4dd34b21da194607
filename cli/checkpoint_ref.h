// How commands name a generation: "VC" is the newest of a virtual computer, "VC@N" the N-th.
#pragma once

#include <string>

#include "runtime/peer/commit_log.h"
#include "runtime/peer/home.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

struct CheckpointRef {
    OwnedFd pin;  ///< Keeps the generation while it is looked at.
    VcPaths paths;
    VcRecord record;
    CommitState commits;
    GenerationRecord generation;
};

/// kNotFound names the generations there are.
Result<CheckpointRef> find_checkpoint(const std::string& reference);

}  // namespace ppdsm
