#include "runtime/peer/file_view.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <system_error>

#include "criu-glue/sandbox/mount_tree.h"
#include "dsm/base/files.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

constexpr std::array<std::pair<const char*, const char*>, 6> kSkeletonLinks{
    {{"dev/fd", "/proc/self/fd"},
     {"dev/stdin", "fd/0"},
     {"dev/stdout", "fd/1"},
     {"dev/stderr", "fd/2"},
     {"dev/ptmx", "pts/ptmx"},
     {"var/run", "../run"}}};

fs::path below(const fs::path& directory, const std::string& path) {
    return directory / fs::path(path).relative_path();
}

class Builder {
public:
    Builder(const ViewPlan& plan, const VcPaths& paths, std::string source_prefix)
        : plan_(plan), run_(paths.run()) {
        view_.skeleton = run_ / "root";
        view_.source_prefix = std::move(source_prefix);
    }

    Status build(const fs::path& init_executable) {
        PPDSM_TRY(make_skeleton(init_executable));
        view_.mounts = device_mounts();
        for (const PlannedPlace& place : plan_.places) PPDSM_TRY(add_place(place));
        for (const PlannedRoot& root : plan_.roots) PPDSM_TRY(add_root(root));
        std::stable_sort(view_.mounts.begin(), view_.mounts.end(),
                         [](const auto& a, const auto& b) {
                             return std::count(a.target.begin(), a.target.end(), '/') <
                                    std::count(b.target.begin(), b.target.end(), '/');
                         });
        return {};
    }
    FileView take() { return std::move(view_); }

private:
    Status make_skeleton(const fs::path& init_executable);
    Status add_place(const PlannedPlace& planned);
    Status add_root(const PlannedRoot& root);

    const ViewPlan& plan_;
    fs::path run_;
    FileView view_;
};

Status Builder::make_skeleton(const fs::path& init_executable) {
    for (const std::string& directory : skeleton_directories()) {
        PPDSM_TRY(make_directories(below(view_.skeleton, directory)));
    }
    std::error_code error;
    fs::copy_file(init_executable, below(view_.skeleton, kInitPath),
                  fs::copy_options::overwrite_existing, error);
    if (error) {
        return fail(Error::from_errno("copy " + init_executable.string(), error.value()));
    }
    if (std::any_of(plan_.places.begin(), plan_.places.end(),
                    [](const PlannedPlace& place) { return place.name == "link"; })) {
        const fs::path library = init_executable.parent_path() / fs::path(kRuntimePath).filename();
        fs::copy_file(library, below(view_.skeleton, kRuntimePath),
                      fs::copy_options::overwrite_existing, error);
        if (error) return fail(Error::from_errno("copy " + library.string(), error.value()));
    }
    for (const auto& [name, target] : kSkeletonLinks) {
        fs::create_symlink(target, view_.skeleton / name, error);
    }
    for (const std::string& directory : plan_.directories) {
        PPDSM_TRY(make_directories(below(view_.skeleton, directory)));
    }
    for (const auto& [path, target] : plan_.links) {
        const fs::path link = below(view_.skeleton, path);
        fs::create_directories(link.parent_path(), error);
        fs::create_symlink(target, link, error);  // The skeleton's own stays.
    }
    return {};
}

Status Builder::add_place(const PlannedPlace& planned) {
    const fs::path base = run_ / "layers" / std::to_string(view_.places.size());
    WritablePlace place{planned.name, place_target(planned.name), base / "upper", base / "staging",
                        planned.applied};
    PPDSM_TRY(make_directories(place.upper));
    if (::chmod(place.upper.c_str(), planned.mode) != 0 ||
        (planned.applied && ::chown(place.upper.c_str(), planned.uid, planned.gid) != 0 &&
         ::geteuid() == 0)) {
        return fail_errno("prepare " + place.upper.string());
    }
    PPDSM_TRY(make_directories(place.staging));
    if (!planned.applied) {
        view_.mounts.push_back({SandboxMount::Kind::kBind, place.target, place.upper, {}, {}});
    }
    view_.places.push_back(std::move(place));
    return {};
}

Status Builder::add_root(const PlannedRoot& root) {
    const bool is_here = view_.source_prefix.empty();
    const std::string source = is_here ? root.source : view_.source_prefix + root.target;
    if (!is_here) {
        view_.file_roots.push_back(root.target);
        if (!root.is_directory) view_.file_targets.insert(root.target);
    }
    switch (root.kind) {
        case PlannedRoot::Kind::kReadOnly:
            view_.mounts.push_back(
                {SandboxMount::Kind::kReadOnlyBind, root.target, source, {}, {}});
            return {};
        case PlannedRoot::Kind::kUnion:
            view_.mounts.push_back({SandboxMount::Kind::kUnion, root.target, source, {}, {}});
            return {};
        case PlannedRoot::Kind::kLower: break;
    }
    const auto place =
        std::find_if(view_.places.begin(), view_.places.end(),
                     [&](const WritablePlace& known) { return known.name == root.target; });
    if (place == view_.places.end()) {
        return fail(Code::kCorrupt, "the plan has no place for " + root.target);
    }
    const fs::path work = place->upper.parent_path() / "work";
    PPDSM_TRY(make_directories(work));
    view_.mounts.push_back({SandboxMount::Kind::kOverlay, root.target, source, place->upper, work});
    return {};
}

bool is_served(const FileView& view, const SandboxMount& mount) {
    return !view.source_prefix.empty() && mount.source.starts_with(view.source_prefix + "/");
}

/// The host path at which a path of the sandbox is made: in the innermost of our own directories.
/// Empty: in a tree that is served from elsewhere, which has it already.
fs::path backing_path(const FileView& view, const std::string& target) {
    const SandboxMount* innermost = nullptr;
    for (const SandboxMount& mount : view.mounts) {
        // What a union is joined with is in the skeleton; its source is not ours to add to.
        if (mount.kind == SandboxMount::Kind::kUnion) continue;
        if (mount.target == target || !is_within(target, mount.target)) continue;
        if (innermost == nullptr || mount.target.size() > innermost->target.size())
            innermost = &mount;
    }
    if (innermost == nullptr) return below(view.skeleton, target);
    if (is_served(view, *innermost)) return {};
    const fs::path rest = fs::path(target).lexically_relative(innermost->target);
    return fs::path(innermost->source) / rest;
}

/// Whether a mount's source is a directory, without looking at what is served from elsewhere.
Result<bool> is_directory_mount(const FileView& view, const SandboxMount& mount) {
    if (is_served(view, mount)) return !view.file_targets.contains(mount.target);
    struct stat info{};
    if (::stat(mount.source.c_str(), &info) != 0) return fail_errno("expose " + mount.source);
    return S_ISDIR(info.st_mode);
}

}  // namespace

bool is_within(const fs::path& path, const fs::path& directory) {
    const auto [end, ignored] =
        std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
    return end == directory.end();
}

std::string home_directory_of(std::uint32_t uid) {
    const passwd* entry = ::getpwuid(uid);
    return entry == nullptr ? "" : entry->pw_dir;
}

const std::vector<std::string>& skeleton_directories() {
    static const std::vector<std::string> kDirectories = {"/proc",    "/dev/pts", "/run",  "/sys",
                                                          "/var/tmp", "/.ppdsm",  "/root", "/home"};
    return kDirectories;
}

std::string place_target(const std::string& name) {
    if (name == "tmp") return "/tmp";
    if (name == "link") return kLinkDirectory;
    return name == "shm" ? "/dev/shm" : name;
}

Result<FileView> build_file_view(const ViewPlan& plan, const VcPaths& paths,
                                 const fs::path& init_executable,
                                 const std::string& source_prefix) {
    Builder builder(plan, paths, source_prefix);
    PPDSM_TRY(builder.build(init_executable));
    return builder.take();
}

Result<FileView> build_file_view(const VcRecord& record, const VcPaths& paths, const Home& home,
                                 const fs::path& init_executable) {
    PPDSM_ASSIGN(const ViewPlan plan, plan_view(record, home));
    return build_file_view(plan, paths, init_executable, "");
}

bool is_too_wide(const fs::path& path, std::uint32_t uid) {
    return path == "/" || path == "/home" || path == "/etc" || path == "/var" || path == "/tmp" ||
           path == home_directory_of(uid);
}

Status check_working_directory(const VcRecord& record) {
    const bool asked_for = std::any_of(
        record.exposures.begin(), record.exposures.end(), [&](const Exposure& exposure) {
            return exposure.writable && is_within(record.working_directory, exposure.path);
        });
    if (asked_for || record.working_directory == "/") return {};
    if (!is_too_wide(record.working_directory, record.uid)) return {};
    return fail(
        Code::kInvalid,
        fmt::format("the working directory {} holds more than this program's files; run it in a "
                    "directory of its own, or say --expose {}:rw",
                    record.working_directory, record.working_directory));
}

Status make_mount_points(const FileView& view) {
    for (const SandboxMount& mount : view.mounts) {
        const fs::path path = backing_path(view, mount.target);
        std::error_code error;
        if (path.empty() || fs::exists(path, error)) continue;
        PPDSM_ASSIGN(const bool is_directory, is_directory_mount(view, mount));
        if (is_directory) {
            PPDSM_TRY(make_directories(path));
        } else {
            PPDSM_TRY(make_directories(path.parent_path()));
            PPDSM_TRY(open_file(path, O_CREAT | O_WRONLY));
        }
    }
    return {};
}

}  // namespace ppdsm
