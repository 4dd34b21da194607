#include "dsm/base/allocator.h"

#include <malloc.h>

namespace ppdsm {

namespace {

constexpr int kLargestKeptBytes = 8 << 20;
constexpr int kMostKeptBytes = 32 << 20;

}  // namespace

void keep_freed_memory() {
    ::mallopt(M_MMAP_THRESHOLD, kLargestKeptBytes);
    ::mallopt(M_TRIM_THRESHOLD, kMostKeptBytes);
}

void return_freed_memory() { ::malloc_trim(0); }

}  // namespace ppdsm
