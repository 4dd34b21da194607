// Functions by where they lie in their image: addresses that mean the same in every process of a
// build.
#pragma once

#include "runtime/lib/link/call_layout.h"

namespace ppdsm::preload {

/// False: no loaded image with a build id holds the address.
bool find_place(const void* address, link::Place& place);
/// Null: no image of that build is loaded, or it is smaller.
void* find_address(const link::Place& place);

}  // namespace ppdsm::preload
