// Limits on a virtual computer's processes: a cgroup of its own under each controller that a limit
// needs, in version 1 or 2 hierarchies, below the cgroup this process is in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "dsm/base/result.h"

namespace ppdsm {

struct ResourceLimits {
    std::uint64_t memory_bytes = 0;  ///< 0: none.
    double cpus = 0;                 ///< 0: none.
};

class LimitGroup {
public:
    /// Makes the groups; none when there are no limits. kUnsupported names the limit and what is
    /// missing. `ledger`: a file in which each directory is noted before it is made.
    static Result<LimitGroup> create(const std::string& name, const ResourceLimits& limits,
                                     const std::filesystem::path& ledger);
    /// Removes what an executor that was killed has left behind. kUnavailable while processes of it
    /// are still dying.
    static Status remove_noted(const std::filesystem::path& ledger);
    LimitGroup() = default;
    LimitGroup(LimitGroup&& other) noexcept;
    LimitGroup& operator=(LimitGroup&& other) noexcept;
    LimitGroup(const LimitGroup&) = delete;
    LimitGroup& operator=(const LimitGroup&) = delete;
    /// Removes the groups; their processes must be gone.
    ~LimitGroup();

    /// Directories whose cgroup.procs the tree enters.
    [[nodiscard]] const std::vector<std::string>& directories() const { return directories_; }
    /// How many processes the kernel has killed for the memory limit.
    [[nodiscard]] std::uint64_t out_of_memory_kills() const;

private:
    Status limit_memory(const std::string& name, std::uint64_t memory_bytes);
    Status limit_cpus(const std::string& name, double cpus);
    Result<std::filesystem::path> make_group(const std::string& controller,
                                             const std::string& name);

    std::vector<std::string> directories_;
    std::filesystem::path ledger_;
};

}  // namespace ppdsm
