#include "runtime/peer/mesh/capacity.h"

#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "dsm/base/wall_clock.h"
#include "dsm/wire/codec.h"
#include "messages_generated.h"
#include "runtime/peer/process_tree.h"

namespace ppdsm {

namespace {

constexpr int kRuns = 5;
constexpr std::int64_t kRunUs = 10'000;
constexpr std::size_t kTableWords = std::size_t{1} << 15;  // 256 KiB: beyond the first cache.

/// Integer, floating-point and memory work mixed; returns steps done in about kRunUs.
double steps_per_us(std::vector<std::uint64_t>& table) {
    std::uint64_t state = 1;
    double sum = 1;
    std::uint64_t steps = 0;
    const std::int64_t begun_us = monotonic_now_us();
    std::int64_t elapsed_us = 0;
    while (elapsed_us < kRunUs) {
        for (int i = 0; i < 4096; ++i) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            std::uint64_t& word = table[(state >> 33) % kTableWords];
            word ^= state;
            sum = sum * 0.999 + static_cast<double>(word & 0xFF);
        }
        steps += 4096;
        elapsed_us = monotonic_now_us() - begun_us;
    }
    table[0] += static_cast<std::uint64_t>(sum);
    return static_cast<double>(steps) / static_cast<double>(elapsed_us);
}

}  // namespace

double measure_speed() {
    std::vector<std::uint64_t> table(kTableWords);
    std::array<double, kRuns> runs{};
    for (double& run : runs) run = steps_per_us(table);
    std::sort(runs.begin(), runs.end());
    return runs[kRuns / 2];
}

void read_machine(Capacity& capacity) {
    capacity.cores = std::max(1U, std::thread::hardware_concurrency());
    struct sysinfo info{};
    if (::sysinfo(&info) == 0) capacity.memory_bytes = info.totalram * info.mem_unit;
    std::ifstream memory("/proc/meminfo");
    for (std::string line; std::getline(memory, line);) {
        if (!line.starts_with("MemAvailable:")) continue;
        capacity.free_memory_bytes = std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
    }
    std::array<double, 1> load{};
    if (::getloadavg(load.data(), 1) == 1) capacity.load = load[0];
    capacity.uid = ::geteuid();
}

double CpuUse::others_cores() {
    std::ifstream file("/proc/stat");
    std::string name;
    std::array<double, 8> ticks{};  // user nice system idle iowait irq softirq steal
    file >> name;
    for (double& each : ticks) file >> each;
    const auto ticks_a_second = static_cast<double>(::sysconf(_SC_CLK_TCK));
    const double all = (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / ticks_a_second;
    const double own = cpu_seconds(::getpid());
    const std::int64_t now_us = monotonic_now_us();
    const double seconds = static_cast<double>(now_us - at_us_) / 1e6;
    const double used = (all - all_seconds_) - (own - own_seconds_);
    const bool is_first = std::exchange(at_us_, now_us) == 0;
    all_seconds_ = all;
    own_seconds_ = own;
    return is_first ? 0 : std::max(0.0, used / seconds);
}

Bytes encode_capacity(const Capacity& capacity) {
    wire::CapacityT packed;
    packed.speed = capacity.speed;
    packed.cores = capacity.cores;
    packed.memory_bytes = capacity.memory_bytes;
    packed.free_memory_bytes = capacity.free_memory_bytes;
    packed.load = capacity.load;
    packed.hosted = capacity.hosted;
    packed.max_cpus = capacity.max_cpus;
    packed.max_memory_bytes = capacity.max_memory_bytes;
    packed.drained = capacity.drained;
    packed.yielding = capacity.yielding;
    packed.uid = capacity.uid;
    packed.machine = capacity.host.machine;
    packed.kernel = capacity.host.kernel_release;
    packed.criu = capacity.host.criu_version;
    for (const std::string& feature : capacity.host.cpu_features) {
        packed.cpu_features += (packed.cpu_features.empty() ? "" : " ") + feature;
    }
    return encode_message<wire::Capacity>(packed);
}

Result<Capacity> decode_capacity(ByteView bytes) {
    PPDSM_ASSIGN(const wire::CapacityT packed, decode_message<wire::Capacity>(bytes));
    Capacity capacity;
    capacity.speed = packed.speed;
    capacity.cores = packed.cores;
    capacity.memory_bytes = packed.memory_bytes;
    capacity.free_memory_bytes = packed.free_memory_bytes;
    capacity.load = packed.load;
    capacity.hosted = packed.hosted;
    capacity.max_cpus = packed.max_cpus;
    capacity.max_memory_bytes = packed.max_memory_bytes;
    capacity.drained = packed.drained;
    capacity.yielding = packed.yielding;
    capacity.uid = packed.uid;
    // Peers are sorted by these.
    for (const double number : {packed.speed, packed.load, packed.max_cpus}) {
        if (!std::isfinite(number) || number < 0) {
            return fail(Code::kCorrupt, "a capacity that no machine has");
        }
    }
    capacity.host.machine = packed.machine;
    capacity.host.kernel_release = packed.kernel;
    capacity.host.criu_version = packed.criu;
    std::istringstream features(packed.cpu_features);
    for (std::string feature; features >> feature;) {
        capacity.host.cpu_features.push_back(feature);
    }
    std::sort(capacity.host.cpu_features.begin(), capacity.host.cpu_features.end());
    return capacity;
}

}  // namespace ppdsm
