#include "runtime/peer/run.h"

namespace ppdsm {

void RunStatistics::add(const GenerationRecord& record) {
    ++generations;
    pause_us_sum += record.pause_us;
    pause_us_max = std::max<std::uint64_t>(pause_us_max, record.pause_us);
    bytes_new += record.bytes_new;
    bytes_total = record.bytes_total;
}

}  // namespace ppdsm
