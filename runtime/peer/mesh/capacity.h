// What a peer offers and says of itself to all others, so that programs are placed well.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "criu-glue/manifest/manifest.h"
#include "dsm/base/files.h"

namespace ppdsm {

struct Capacity {
    double speed = 0;  ///< Millions of steps a second of the calibration loop, on one core.
    std::uint32_t cores = 0;
    std::uint64_t memory_bytes = 0;
    std::uint64_t free_memory_bytes = 0;
    double load = 0;           ///< Of the last minute.
    std::uint32_t hosted = 0;  ///< Programs that run there for the mesh.
    double max_cpus = 0;       ///< Set by its owner; 0: all.
    std::uint64_t max_memory_bytes = 0;
    bool drained = false;
    bool yielding = false;  ///< Its owner uses the machine now.
    std::uint32_t uid = 0;  ///< Whose programs it can run: root's daemon everybody's.
    HostRecord host;        ///< criu_version empty: it cannot checkpoint.
};

Bytes encode_capacity(const Capacity& capacity);
Result<Capacity> decode_capacity(ByteView bytes);

/// Blocks for about 50 ms: the median of several short runs, so that one preemption does not count.
double measure_speed();
/// Memory and load as they are now.
void read_machine(Capacity& capacity);

/// How much of the machine others use than this process and its descendants.
class CpuUse {
public:
    /// Cores that they kept busy on average since the last call; 0 the first time.
    double others_cores();

private:
    double all_seconds_ = 0;
    double own_seconds_ = 0;
    std::int64_t at_us_ = 0;
};

}  // namespace ppdsm
