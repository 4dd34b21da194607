#include "runtime/peer/cgroup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "dsm/base/files.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kPeriodUs = 100'000;
constexpr const char* kRoot = "/sys/fs/cgroup";

bool is_unified() {
    return ::access((std::string(kRoot) + "/cgroup.controllers").c_str(), F_OK) == 0;
}

/// This process's cgroup in the hierarchy of `controller`; "" where there is none.
std::string own_group(const std::string& controller) {
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        const std::size_t first = line.find(':');
        const std::size_t second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        std::istringstream names(line.substr(first + 1, second - first - 1));
        for (std::string name; std::getline(names, name, ',');) {
            if (name == controller) return line.substr(second + 1);
        }
    }
    return "";
}

Status write_value(const fs::path& file, const std::string& value) {
    PPDSM_ASSIGN(const OwnedFd fd, open_file(file, O_WRONLY));
    if (Status written = write_all(fd, as_bytes(value)); !written) {
        return fail(written.error().within(file.string()));
    }
    return {};
}

}  // namespace

Result<LimitGroup> LimitGroup::create(const std::string& name, const ResourceLimits& limits,
                                      const fs::path& ledger) {
    LimitGroup group;
    group.ledger_ = ledger;
    if (limits.memory_bytes > 0) {
        if (Status limited = group.limit_memory(name, limits.memory_bytes); !limited) {
            return fail(
                limited.error().within("--memory needs a memory cgroup, which is not to be had"));
        }
    }
    if (limits.cpus > 0) {
        if (Status limited = group.limit_cpus(name, limits.cpus); !limited) {
            return fail(
                limited.error().within("--cpus needs a cpu cgroup, which is not to be had"));
        }
    }
    return group;
}

Status LimitGroup::remove_noted(const fs::path& ledger) {
    std::ifstream noted(ledger);
    for (std::string directory; std::getline(noted, directory);) {
        if (::rmdir(directory.c_str()) == 0 || errno == ENOENT) continue;
        if (errno != EBUSY) return fail_errno("remove " + directory);
        return fail(Code::kUnavailable,
                    "processes in " + directory + " are still ending; try again in a moment");
    }
    return {};
}

LimitGroup::LimitGroup(LimitGroup&& other) noexcept
    : directories_(std::exchange(other.directories_, {})), ledger_(std::move(other.ledger_)) {}

LimitGroup& LimitGroup::operator=(LimitGroup&& other) noexcept {
    std::swap(directories_, other.directories_);
    std::swap(ledger_, other.ledger_);
    return *this;
}

LimitGroup::~LimitGroup() {
    for (const std::string& directory : directories_) ::rmdir(directory.c_str());
}

Result<fs::path> LimitGroup::make_group(const std::string& controller, const std::string& name) {
    fs::path path;
    if (is_unified()) {
        // A group with processes of its own cannot have limited children: ours hang below the root.
        PPDSM_TRY(write_value(fs::path(kRoot) / "cgroup.subtree_control", "+" + controller));
        path = fs::path(kRoot) / name;
    } else {
        const std::string own = own_group(controller);
        if (own.empty())
            return fail(Code::kUnsupported, "no " + controller + " controller is mounted");
        path = fs::path(kRoot) / controller / fs::path(own).relative_path() / name;
    }
    PPDSM_ASSIGN(const OwnedFd ledger, open_file(ledger_, O_WRONLY | O_CREAT | O_APPEND));
    PPDSM_TRY(write_all(ledger, as_bytes(path.string() + "\n")));
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST)
        return fail_errno("make " + path.string());
    if (std::find(directories_.begin(), directories_.end(), path.string()) == directories_.end()) {
        directories_.push_back(path);
    }
    return path;
}

Status LimitGroup::limit_memory(const std::string& name, std::uint64_t memory_bytes) {
    PPDSM_ASSIGN(const fs::path group, make_group("memory", name));
    const std::string value = std::to_string(memory_bytes);
    if (!is_unified()) return write_value(group / "memory.limit_in_bytes", value);
    PPDSM_TRY(write_value(group / "memory.max", value));
    // Swapping instead of the limit would be no limit; absent where the kernel has no swap control.
    (void)write_value(group / "memory.swap.max", "0");
    return {};
}

Status LimitGroup::limit_cpus(const std::string& name, double cpus) {
    PPDSM_ASSIGN(const fs::path group, make_group("cpu", name));
    const auto quota_us = static_cast<std::uint64_t>(cpus * static_cast<double>(kPeriodUs));
    if (is_unified())
        return write_value(group / "cpu.max", fmt::format("{} {}", quota_us, kPeriodUs));
    PPDSM_TRY(write_value(group / "cpu.cfs_period_us", std::to_string(kPeriodUs)));
    return write_value(group / "cpu.cfs_quota_us", std::to_string(quota_us));
}

std::uint64_t LimitGroup::out_of_memory_kills() const {
    for (const std::string& directory : directories_) {
        for (const char* file : {"memory.events", "memory.oom_control"}) {
            std::ifstream counters(fs::path(directory) / file);
            std::string key;
            for (std::uint64_t value = 0; counters >> key >> value;) {
                if (key == "oom_kill") return value;
            }
        }
    }
    return 0;
}

}  // namespace ppdsm
