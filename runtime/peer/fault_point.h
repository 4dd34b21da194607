// Named places at which a test may have this process killed, as a crash would: PPDSM_FAULT=NAME[:N]
// raises SIGKILL the N-th time (default: first) the place is reached. Always compiled in, so that
// what is tested is what runs; without the variable a place costs one comparison.
//
// Places, in the order of a run: precopy, dump, frozen, store, flushed, before-commit, committed,
// files-staged, files-written (both with --files commit), dropped, restore, restore-images,
// before-end, ended, applied.
#pragma once

namespace ppdsm {

void fault_point(const char* name);

}  // namespace ppdsm
