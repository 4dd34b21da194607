#include "runtime/peer/view_plan.h"

#include <pwd.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "criu-glue/sandbox/mount_tree.h"
#include "dsm/base/byte_text.h"
#include "runtime/peer/file_view.h"
#include "runtime/peer/harmless_etc.h"

namespace ppdsm {

namespace fs = std::filesystem;
using Json = nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PlannedRoot, kind, target, source, is_system, is_directory)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PlannedPlace, name, mode, uid, gid, applied)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ViewPlan, roots, places, links, directories)

namespace {

constexpr std::array kSystemDirectories = {"/usr",   "/bin",   "/sbin", "/lib",
                                           "/lib32", "/lib64", "/opt"};

bool is_system_path(const fs::path& path) {
    return std::any_of(kSystemDirectories.begin(), kSystemDirectories.end(),
                       [&](const char* directory) { return is_within(path, directory); });
}

/// Without what only makes a path longer; empty for a relative one.
std::string clean(const fs::path& path) {
    if (!path.is_absolute()) return {};
    const fs::path normal = path.lexically_normal();
    return normal.has_filename() ? normal : normal.parent_path();
}

class Planner {
public:
    explicit Planner(const VcRecord& record) : record_(record) {}

    Status plan(const Home& home) {
        if (std::string user_home = clean(home_directory_of(record_.uid)); !user_home.empty()) {
            plan_.directories.push_back(std::move(user_home));
        }
        PPDSM_TRY(add_system(home));
        plan_.places.push_back({"tmp", 01777, 0, 0, false});
        plan_.places.push_back({"shm", 01777, 0, 0, false});
        if (record_.thread != 0) plan_.places.push_back({"link", 0755, 0, 0, false});
        PPDSM_TRY(add_program());
        for (const Exposure& exposure : record_.exposures) PPDSM_TRY(add_exposure(exposure));
        return add_working_directory();
    }
    ViewPlan take() { return std::move(plan_); }

private:
    Status add_system(const Home& home);
    Status add_program();
    Status add_working_directory();
    Status add_exposure(const Exposure& exposure);
    Status add_writable(const std::string& path);
    void add_link(const fs::path& path, const fs::path& target);
    bool is_exposed(const fs::path& path) const;

    const VcRecord& record_;
    ViewPlan plan_;
};

Status Planner::add_system(const Home& home) {
    for (const char* directory : kSystemDirectories) {
        std::error_code error;
        const fs::file_status status = fs::symlink_status(directory, error);
        if (fs::is_symlink(status)) {
            plan_.links.emplace_back(directory, fs::read_symlink(directory, error));
        } else if (fs::is_directory(status)) {
            plan_.roots.push_back({PlannedRoot::Kind::kReadOnly, directory, directory, true, true});
        }
    }
    PPDSM_ASSIGN(const fs::path etc, harmless_etc(home.cache()));
    plan_.roots.push_back({PlannedRoot::Kind::kUnion, "/etc", etc, true, true});
    return {};
}

/// Not where something is mounted, nor where the skeleton has something of its own.
void Planner::add_link(const fs::path& path, const fs::path& target) {
    const auto covers = [&](const fs::path& other) {
        return is_within(other, path) || is_within(path, other);
    };
    const std::vector<SandboxMount> devices = device_mounts();
    if (std::any_of(devices.begin(), devices.end(),
                    [&](const SandboxMount& mount) { return covers(mount.target); }) ||
        std::any_of(plan_.places.begin(), plan_.places.end(),
                    [&](const PlannedPlace& place) { return covers(place_target(place.name)); }) ||
        std::any_of(plan_.roots.begin(), plan_.roots.end(), [&](const PlannedRoot& root) {
            return root.kind != PlannedRoot::Kind::kUnion && covers(root.target);
        })) {
        return;
    }
    const auto is_led_to = [&](const fs::path& directory) { return is_within(directory, path); };
    const auto& skeleton = skeleton_directories();
    if (std::any_of(skeleton.begin(), skeleton.end(), is_led_to) ||
        std::any_of(plan_.directories.begin(), plan_.directories.end(), is_led_to)) {
        return;
    }
    // The first stays, as on a disk.
    if (std::any_of(plan_.links.begin(), plan_.links.end(),
                    [&](const auto& link) { return covers(link.first); })) {
        return;
    }
    plan_.links.emplace_back(path, target);
}

bool Planner::is_exposed(const fs::path& path) const {
    if (is_system_path(path) || is_within(path, record_.working_directory)) return true;
    return std::any_of(record_.exposures.begin(), record_.exposures.end(),
                       [&](const Exposure& exposure) { return is_within(path, exposure.path); });
}

/// The program's directory (its private libraries lie beside it), or only the file where the
/// directory holds too much else.
Status Planner::add_program() {
    if (is_exposed(record_.program)) return {};
    const std::string directory = clean(fs::path(record_.program).parent_path());
    const bool as_directory = !is_too_wide(directory, record_.uid);
    const std::string shown = as_directory ? directory : clean(record_.program);
    plan_.roots.push_back({PlannedRoot::Kind::kReadOnly, shown, shown, false, as_directory});
    return {};
}

Status Planner::add_working_directory() {
    const fs::path directory = record_.working_directory;
    const bool asked_for =
        std::any_of(record_.exposures.begin(), record_.exposures.end(),
                    [&](const Exposure& exposure) { return is_within(directory, exposure.path); });
    if (asked_for || is_system_path(directory) || directory == "/") return {};
    return add_writable(directory);
}

Status Planner::add_exposure(const Exposure& exposure) {
    struct stat info{};
    if (::stat(exposure.path.c_str(), &info) != 0) return fail_errno("--expose " + exposure.path);
    for (const auto& [path, target] : exposure.links) add_link(path, target);
    if (!exposure.writable) {
        plan_.roots.push_back({PlannedRoot::Kind::kReadOnly, exposure.path, exposure.path,
                               is_system_path(exposure.path), S_ISDIR(info.st_mode)});
        return {};
    }
    if (!S_ISDIR(info.st_mode)) {
        return fail(Code::kInvalid,
                    "--expose " + exposure.path + ":rw is not a directory; expose its directory");
    }
    return add_writable(exposure.path);
}

/// The layer's root shows as the directory itself: it must look like the one at home.
Status Planner::add_writable(const std::string& path) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) return fail_errno("working directory " + path);
    plan_.roots.push_back(
        {PlannedRoot::Kind::kLower, path, path, is_system_path(path), S_ISDIR(info.st_mode)});
    plan_.places.push_back({path, info.st_mode & 07777, info.st_uid, info.st_gid, true});
    return {};
}

template <std::string (*Convert)(const std::string&)>
void convert_strings(ViewPlan& plan) {
    for (PlannedRoot& root : plan.roots) {
        root.target = Convert(root.target);
        root.source = Convert(root.source);
    }
    for (PlannedPlace& place : plan.places) place.name = Convert(place.name);
    for (auto& [path, target] : plan.links) path = Convert(path), target = Convert(target);
    for (std::string& directory : plan.directories) directory = Convert(directory);
}

/// What is made from a plan is made by path, on somebody else's disk: no path of it may lead out of
/// the skeleton, neither by itself nor through a link of the plan.
bool is_sound(const ViewPlan& plan) {
    std::vector<std::string> made = plan.directories;
    for (const PlannedRoot& root : plan.roots) {
        if (root.kind > PlannedRoot::Kind::kLower || !is_clean_path(root.source)) return false;
        made.push_back(root.target);
    }
    for (const PlannedPlace& place : plan.places) {
        const auto is_below = [&](const PlannedRoot& root) {
            return root.kind == PlannedRoot::Kind::kLower && root.target == place.name;
        };
        const bool has_root = std::any_of(plan.roots.begin(), plan.roots.end(), is_below);
        const bool is_private = place.name == "tmp" || place.name == "shm" || place.name == "link";
        if (place.applied != has_root || place.applied == is_private) return false;
        made.push_back(place_target(place.name));
    }
    for (const auto& [path, target] : plan.links) {
        if (path == "/" || target.empty() || target.find('\0') != std::string::npos) return false;
        if (std::any_of(made.begin(), made.end(),
                        [&](const std::string& other) { return is_within(other, path); })) {
            return false;
        }
        for (const auto& [other, ignored] : plan.links) {
            if (&other != &path && is_within(other, path)) return false;
        }
        made.push_back(path);
    }
    return std::all_of(made.begin(), made.end(), is_clean_path);
}

}  // namespace

bool is_clean_path(const std::string& path) {
    if (path.empty() || path.front() != '/' || path.find('\0') != std::string::npos) return false;
    if (path == "/") return true;
    for (std::size_t at = 0; at < path.size();) {
        const std::size_t end = std::min(path.find('/', at + 1), path.size());
        const std::string_view name = std::string_view(path).substr(at + 1, end - at - 1);
        if (name.empty() || name == "." || name == "..") return false;
        at = end;
    }
    return true;
}

Result<ViewPlan> plan_view(const VcRecord& record, const Home& home) {
    Planner planner(record);
    PPDSM_TRY(planner.plan(home));
    return planner.take();
}

std::string encode_plan(const ViewPlan& plan) {
    ViewPlan wide = plan;
    convert_strings<bytes_to_utf8>(wide);
    return Json(wide).dump();
}

Result<ViewPlan> decode_plan(std::string_view text) {
    try {
        auto plan = Json::parse(text).get<ViewPlan>();
        convert_strings<utf8_to_bytes>(plan);
        if (!is_sound(plan)) return fail(Code::kCorrupt, "a view's plan leads elsewhere");
        return plan;
    } catch (const Json::exception& bad) {
        return fail(Code::kCorrupt, std::string("a view's plan: ") + bad.what());
    }
}

}  // namespace ppdsm
