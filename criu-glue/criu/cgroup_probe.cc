#include "criu-glue/criu/cgroup_probe.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "dsm/base/files.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

struct Hierarchy {
    int version = 0;
    fs::path mount;
    std::vector<std::string> controllers;  ///< Version 1: those of the hierarchy.
    fs::path own;                          ///< Our group, below `mount`.
};

std::vector<std::string> split(const std::string& text, char at) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, at);) {
        if (!part.empty()) parts.push_back(part);
    }
    return parts;
}

/// From /proc/self/mountinfo: "id parent dev root mount-point options... - type source options".
std::vector<Hierarchy> mounted_hierarchies() {
    std::vector<Hierarchy> found;
    const Result<std::string> text = read_text("/proc/self/mountinfo");
    if (!text) return found;
    for (const std::string& line : split(*text, '\n')) {
        const std::vector<std::string> fields = split(line, ' ');
        const auto dash = std::find(fields.begin(), fields.end(), "-");
        if (fields.end() - dash < 4 || fields.size() < 5) continue;
        Hierarchy hierarchy;
        hierarchy.mount = fields[4];
        if (dash[1] == "cgroup2") {
            hierarchy.version = 2;
        } else if (dash[1] == "cgroup") {
            hierarchy.version = 1;
            hierarchy.controllers = split(dash[3], ',');
        } else {
            continue;
        }
        found.push_back(std::move(hierarchy));
    }
    return found;
}

/// From /proc/self/cgroup: "number:controllers:path"; version 2 has number 0 and no controllers.
void find_own_groups(std::vector<Hierarchy>& hierarchies) {
    const Result<std::string> text = read_text("/proc/self/cgroup");
    if (!text) return;
    for (const std::string& line : split(*text, '\n')) {
        const std::size_t first = line.find(':');
        const std::size_t second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::vector<std::string> names =
            split(line.substr(first + 1, second - first - 1), ',');
        const fs::path below = fs::path(line.substr(second + 1)).relative_path();
        for (Hierarchy& hierarchy : hierarchies) {
            const auto& offered = hierarchy.controllers;
            const bool same = hierarchy.version == 2
                                  ? names.empty()
                                  : !names.empty() && std::find(offered.begin(), offered.end(),
                                                                names.front()) != offered.end();
            if (!same) continue;
            // Inside a container the path may be one of outside, and the mount's root is ours.
            hierarchy.own = hierarchy.mount / below;
            if (!fs::exists(hierarchy.own)) hierarchy.own = hierarchy.mount;
        }
    }
}

/// What a new group below ours would offer; empty when none can be made.
std::vector<std::string> usable_controllers(const Hierarchy& hierarchy) {
    if (hierarchy.own.empty()) return {};
    const fs::path group = hierarchy.own / ("ppdsm-probe-" + std::to_string(::getpid()));
    if (::mkdir(group.c_str(), 0755) != 0) return {};
    std::vector<std::string> usable = hierarchy.controllers;
    if (hierarchy.version == 2) {
        if (const Result<std::string> text = read_text(group / "cgroup.controllers")) {
            std::istringstream words(*text);
            for (std::string word; words >> word;) usable.push_back(word);
        }
        if (fs::exists(group / "cgroup.freeze")) usable.emplace_back("freezer");
        if (fs::exists(group / "cgroup.kill")) usable.emplace_back("kill");
    }
    ::rmdir(group.c_str());
    return usable;
}

ProbeResult try_cgroups() {
    std::vector<Hierarchy> hierarchies = mounted_hierarchies();
    find_own_groups(hierarchies);
    std::set<std::string> versions;
    std::set<std::string> usable;
    constexpr std::string_view kInteresting[] = {"memory", "cpu", "pids", "freezer", "kill"};
    for (const Hierarchy& hierarchy : hierarchies) {
        versions.insert(hierarchy.version == 2 ? "v2" : "v1");
        for (const std::string& name : usable_controllers(hierarchy)) {
            if (std::find(std::begin(kInteresting), std::end(kInteresting), name) !=
                std::end(kInteresting)) {
                usable.insert(name);
            }
        }
    }
    if (versions.empty()) return {false, "no cgroup file system is mounted"};
    std::string detail;
    for (const std::string& version : versions) {
        if (!detail.empty()) detail += '+';
        detail += version;
    }
    detail += usable.empty() ? "; no group can be made below ours" : "; usable:";
    for (const std::string& name : usable) detail.append(1, ' ').append(name);
    const bool enough =
        usable.contains("memory") && usable.contains("cpu") && usable.contains("freezer");
    return {enough, detail};
}

}  // namespace

ProbeResult probe_cgroups() { return probe_in_child(try_cgroups); }

}  // namespace ppdsm
