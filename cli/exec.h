// Running virtual computers in this process, for the commands that do.
#pragma once

#include "runtime/peer/home.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

/// Goes on with a VC whose executor is gone; stdin, stdout and signals are the caller's. Returns
/// the exit code.
int resume_attached(const Home& home, const VcPaths& paths, VcRecord record);

}  // namespace ppdsm
