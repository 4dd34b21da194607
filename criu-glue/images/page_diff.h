// Compares the pages of two address spaces. Internal to this room.
#pragma once

#include <cstdint>
#include <functional>

#include "criu-glue/images/address_space.h"
#include "criu-glue/images/tree_diff.h"
#include "dsm/base/result.h"

namespace ppdsm::images {

enum class PageFate { kUnchanged, kChanged, kAdded, kRemoved };

/// One of the two checkpoints that are compared.
struct Side {
    ImageSource& source;
    const AddressSpace& space;
};

/// Calls `sink` for each page that either holds, by address. Both must have the same page size.
Status compare_pages(const Side& before, const Side& after, const PageComparator& comparator,
                     const std::function<void(std::uint64_t address, PageFate)>& sink);

}  // namespace ppdsm::images
