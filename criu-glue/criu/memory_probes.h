// Tries the kernel's ways to find changed pages and to serve page faults. Each runs in a child.
#pragma once

#include "criu-glue/criu/probe_child.h"

namespace ppdsm {

/// Clears the soft-dirty marks and looks whether a write sets one.
ProbeResult probe_soft_dirty();
/// Registers shared memory with a full userfaultfd (one that also serves faults from inside system
/// calls), through the system call or /dev/userfaultfd.
ProbeResult probe_userfaultfd();
/// Write-protects pages asynchronously, writes to one, and lets PAGEMAP_SCAN find it.
ProbeResult probe_pagemap_scan();

}  // namespace ppdsm
