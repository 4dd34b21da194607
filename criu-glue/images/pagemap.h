// One page map of CRIU and the pages image that goes with it: which pages are in the checkpoint and
// at which offset. Internal to this room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "criu-glue/images/image_source.h"
#include "dsm/base/result.h"

namespace ppdsm::images {

/// Pages that follow each other both in memory and in the pages image.
struct PageRun {
    std::uint64_t address;  ///< For shared memory: offset in the segment.
    std::uint64_t size_bytes;
    std::uint64_t file_offset;
};

struct Pagemap {
    std::string pages_name;           ///< "pages-3.img"
    std::uint64_t page_bytes = 4096;  ///< CRIU does not write it down: from the pages image's size.
    std::vector<PageRun> runs;        ///< Ascending, not overlapping.
    std::uint64_t present_bytes = 0;
    std::uint64_t parent_bytes = 0;  ///< Named, but kept in an earlier checkpoint.
};

/// kNotFound when there is no such page map; kCorrupt also when its pages image has another size
/// than the map says.
Result<Pagemap> read_pagemap(ImageSource& source, const std::string& name);

}  // namespace ppdsm::images
