// What CRIU measured of its own dump ("stats-dump").
#pragma once

#include <cstdint>

#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm {

struct DumpStatistics {
    std::uint64_t freezing_us = 0;  ///< Until every thread stood still.
    std::uint64_t frozen_us = 0;    ///< How long the tree then stood still: the pause.
    std::uint64_t memdump_us = 0;
    std::uint64_t memwrite_us = 0;
    std::uint64_t pages_scanned = 0;
    std::uint64_t pages_skipped_parent = 0;
    std::uint64_t pages_written = 0;
    std::uint64_t pages_lazy = 0;
    std::uint64_t shared_pages_scanned = 0;
    std::uint64_t shared_pages_skipped_parent = 0;
    std::uint64_t shared_pages_written = 0;
};

/// Reads the content of CRIU's "stats-dump"; kCorrupt when it is anything else.
Result<DumpStatistics> read_dump_statistics(ByteView stats_dump);

}  // namespace ppdsm
