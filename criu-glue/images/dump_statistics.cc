#include "criu-glue/images/dump_statistics.h"

#include "criu-glue/images/image_file.h"
#include "criu_images.pb-c.h"

namespace ppdsm {

Result<DumpStatistics> read_dump_statistics(ByteView stats_dump) {
    using images::RecordReader;
    PPDSM_ASSIGN(RecordReader reader,
                 RecordReader::open("stats-dump", stats_dump, images::Magic::kStatistics));
    PPDSM_ASSIGN(const auto record,
                 reader.next<PpdsmImages__Statistics>(ppdsm_images__statistics__descriptor));
    if (record->dump == nullptr) {
        return images::corrupt("stats-dump", "holds the statistics of something else than a dump");
    }
    const PpdsmImages__DumpStatistics& dump = *record->dump;
    DumpStatistics statistics;
    statistics.freezing_us = dump.freezing_us;
    statistics.frozen_us = dump.frozen_us;
    statistics.memdump_us = dump.memdump_us;
    statistics.memwrite_us = dump.memwrite_us;
    statistics.pages_scanned = dump.pages_scanned;
    statistics.pages_skipped_parent = dump.pages_skipped_parent;
    statistics.pages_written = dump.pages_written;
    statistics.pages_lazy = dump.pages_lazy;
    statistics.shared_pages_scanned = dump.shared_pages_scanned;
    statistics.shared_pages_skipped_parent = dump.shared_pages_skipped_parent;
    statistics.shared_pages_written = dump.shared_pages_written;
    return statistics;
}

}  // namespace ppdsm
