// What a program is shown of its owner's files, as a description that travels: made at the owner
// from the record (plan_view), carried out wherever the program runs (build_file_view). Nothing in
// it has to exist on the machine that carries it out, except what every machine has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dsm/base/result.h"
#include "runtime/peer/home.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

/// A file or directory of the owner that is shown with all below it.
struct PlannedRoot {
    enum class Kind : std::uint8_t {
        kReadOnly,
        kUnion,  ///< Joined with what the sandbox's own root has there (/etc).
        kLower,  ///< Below the private layer of the writable place of the same target.
    };
    Kind kind = Kind::kReadOnly;
    std::string target;      ///< Absolute path inside the sandbox.
    std::string source;      ///< Absolute path at the owner; not within what may not be shown.
    bool is_system = false;  ///< Like those of any machine: not replicated before a commit.
    bool is_directory = true;
    bool operator==(const PlannedRoot&) const = default;
};

/// What the program writes there lands in a private layer.
struct PlannedPlace {
    std::string name;  ///< "tmp", "shm", "link", or the path at home of the root below it.
    std::uint32_t mode = 0755;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    bool applied = false;  ///< It has a root below, and its content is written home at the end.
    bool operator==(const PlannedPlace&) const = default;
};

struct ViewPlan {
    std::vector<PlannedRoot> roots;
    std::vector<PlannedPlace> places;
    std::vector<std::pair<std::string, std::string>> links;  ///< Path inside and target.
    std::vector<std::string> directories;                    ///< Of the skeleton, inside.
    bool operator==(const ViewPlan&) const = default;
};

/// At the owner, whose disk it looks at; it makes nothing but the copy of /etc in the home's cache.
/// kInvalid: an exposure that cannot be.
Result<ViewPlan> plan_view(const VcRecord& record, const Home& home);

/// Absolute, without empty names, "." and "..".
bool is_clean_path(const std::string& path);

/// JSON.
std::string encode_plan(const ViewPlan& plan);
/// kCorrupt: not a plan, or one whose paths are not absolute, clean and different.
Result<ViewPlan> decode_plan(std::string_view text);

}  // namespace ppdsm
