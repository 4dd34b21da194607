// What becomes of memory that is freed. Buffers of messages come and go by the hundred thousand;
// each time the kernel took one back and gave it again zeroed would cost more than what is done
// with it.
#pragma once

namespace ppdsm {

/// Freed blocks of message size stay with this process. Call it before there are threads.
void keep_freed_memory();
/// Gives back what is free now: for a process that has become idle.
void return_freed_memory();

}  // namespace ppdsm
