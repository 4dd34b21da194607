// Named places at which a test may have this process killed, as a crash would: PPDSM_FAULT=NAME[:N]
// raises SIGKILL the N-th time (default: first) the place is reached. Always compiled in, so that
// what is tested is what runs; without the variable a place costs one comparison.
//
// Places, in the order of a run: precopy, dump, frozen, store, flushed, before-commit, committed,
// files-staged, files-written (both with --files commit), dropped, restore, restore-images,
// before-end, ended, applied. On the mesh, besides: deploy, deployer-commit, deployer-committed,
// deployer-end, deployer-applied (the deployer's daemon); replicate, replicated (the worker's);
// replica-durable (a replica's).
#pragma once

namespace ppdsm {

void fault_point(const char* name);

}  // namespace ppdsm
