// One process's memory: its areas, and for each page in the checkpoint where its bytes are, the
// pages of shared segments included. Internal to this room.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "criu-glue/images/file_table.h"
#include "criu-glue/images/image_source.h"
#include "criu-glue/images/memory_image.h"
#include "criu-glue/images/process_image.h"
#include "dsm/base/result.h"

namespace ppdsm::images {

struct Extent {
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t file_offset;
    std::uint32_t file;  ///< Index in AddressSpace::page_files.
};

struct AddressSpace {
    std::uint32_t exe_file = 0;
    std::uint64_t arguments_start = 0;
    std::uint64_t arguments_end = 0;
    std::vector<Mapping> mappings;  ///< Ascending, image_bytes filled in.
    std::uint64_t page_bytes = 4096;
    std::vector<std::string> page_files;
    std::vector<Extent> extents;  ///< Ascending, not overlapping.
};

/// kCorrupt also when the process has no memory image: ask only for processes that live. Pages of
/// private memory that are in a parent checkpoint are kUnsupported: ppdsm never makes such.
Result<AddressSpace> read_address_space(ImageSource& source, const FileTable& files,
                                        std::uint32_t pid);

/// Fills `into` with what is at `address`; parts that the checkpoint does not hold become zeros and
/// are returned. kInvalid when the range passes the end of all addresses.
Result<std::vector<AddressRange>> read_memory(ImageSource& source, const AddressSpace& space,
                                              std::uint64_t address, std::span<std::uint8_t> into);

}  // namespace ppdsm::images
