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
#include "runtime/peer/harmless_etc.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

constexpr std::array kSystemDirectories = {"/usr",   "/bin",   "/sbin", "/lib",
                                           "/lib32", "/lib64", "/opt"};

std::string home_directory_of(std::uint32_t uid) {
    const passwd* entry = ::getpwuid(uid);
    return entry == nullptr ? "" : entry->pw_dir;
}

class Builder {
public:
    Builder(const VcRecord& record, const VcPaths& paths) : record_(record), run_(paths.run()) {
        view_.skeleton = run_ / "root";
    }

    Status build(const Home& home, const fs::path& init_executable) {
        PPDSM_TRY(make_skeleton(init_executable));
        PPDSM_TRY(add_system(home));
        PPDSM_TRY(add_place("tmp", SandboxMount::Kind::kBind, 01777));
        PPDSM_TRY(add_place("shm", SandboxMount::Kind::kBind, 01777));
        PPDSM_TRY(add_program());
        for (const Exposure& exposure : record_.exposures) PPDSM_TRY(add_exposure(exposure));
        PPDSM_TRY(add_working_directory());
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
    Status add_system(const Home& home);
    Status add_program();
    Status add_working_directory();
    Status add_exposure(const Exposure& exposure);
    Status add_place(const std::string& name, SandboxMount::Kind kind, unsigned mode);
    void add_read_only(const std::string& path, const std::string& source);
    void add_link(const fs::path& path, const fs::path& target);
    bool is_exposed(const fs::path& path) const;

    const VcRecord& record_;
    fs::path run_;
    FileView view_;
};

Status Builder::make_skeleton(const fs::path& init_executable) {
    for (const char* directory :
         {"proc", "dev/pts", "run", "sys", "var/tmp", ".ppdsm", "root", "home"}) {
        PPDSM_TRY(make_directories(view_.skeleton / directory));
    }
    std::error_code error;
    fs::copy_file(init_executable, view_.skeleton / fs::path(kInitPath).relative_path(),
                  fs::copy_options::overwrite_existing, error);
    if (error) {
        return fail(Error::from_errno("copy " + init_executable.string(), error.value()));
    }
    constexpr std::array<std::pair<const char*, const char*>, 6> kLinks{
        {{"dev/fd", "/proc/self/fd"},
         {"dev/stdin", "fd/0"},
         {"dev/stdout", "fd/1"},
         {"dev/stderr", "fd/2"},
         {"dev/ptmx", "pts/ptmx"},
         {"var/run", "../run"}}};
    for (const auto& [name, target] : kLinks) {
        fs::create_symlink(target, view_.skeleton / name, error);
    }
    view_.mounts = device_mounts();
    const std::string user_home = home_directory_of(record_.uid);
    if (!user_home.empty()) {
        PPDSM_TRY(make_directories(view_.skeleton / fs::path(user_home).relative_path()));
    }
    return {};
}

Status Builder::add_system(const Home& home) {
    for (const char* directory : kSystemDirectories) {
        std::error_code error;
        const fs::file_status status = fs::symlink_status(directory, error);
        if (fs::is_symlink(status)) {
            fs::create_symlink(fs::read_symlink(directory, error),
                               view_.skeleton / fs::path(directory).relative_path(), error);
        } else if (fs::is_directory(status)) {
            add_read_only(directory, directory);
        }
    }
    PPDSM_ASSIGN(const fs::path etc, harmless_etc(home.cache()));
    view_.mounts.push_back({SandboxMount::Kind::kUnion, "/etc", etc, {}, {}});
    return {};
}

void Builder::add_read_only(const std::string& path, const std::string& source) {
    view_.mounts.push_back({SandboxMount::Kind::kReadOnlyBind, path, source, {}, {}});
}

/// Not where something is mounted, or where the skeleton has a link of its own.
void Builder::add_link(const fs::path& path, const fs::path& target) {
    const bool is_covered =
        std::any_of(view_.mounts.begin(), view_.mounts.end(), [&](const SandboxMount& mount) {
            if (mount.kind == SandboxMount::Kind::kUnion) return false;
            return is_within(mount.target, path) || is_within(path, mount.target);
        });
    if (is_covered) return;
    const fs::path link = view_.skeleton / path.relative_path();
    std::error_code ignored;  // The skeleton's own stays.
    fs::create_directories(link.parent_path(), ignored);
    fs::create_symlink(target, link, ignored);
}

bool Builder::is_exposed(const fs::path& path) const {
    if (is_system_path(path) || is_within(path, record_.working_directory)) return true;
    return std::any_of(record_.exposures.begin(), record_.exposures.end(),
                       [&](const Exposure& exposure) { return is_within(path, exposure.path); });
}

/// The program's directory (its private libraries lie beside it), or only the file where the
/// directory holds too much else.
Status Builder::add_program() {
    if (is_exposed(record_.program)) return {};
    const fs::path directory = fs::path(record_.program).parent_path();
    const fs::path exposed =
        is_too_wide(directory, record_.uid) ? fs::path(record_.program) : directory;
    add_read_only(exposed, exposed);
    return {};
}

Status Builder::add_working_directory() {
    const fs::path directory = record_.working_directory;
    const bool asked_for =
        std::any_of(record_.exposures.begin(), record_.exposures.end(),
                    [&](const Exposure& exposure) { return is_within(directory, exposure.path); });
    if (asked_for || is_system_path(directory) || directory == "/") return {};
    return add_place(directory, SandboxMount::Kind::kOverlay, 0755);
}

Status Builder::add_exposure(const Exposure& exposure) {
    struct stat info{};
    if (::stat(exposure.path.c_str(), &info) != 0) return fail_errno("--expose " + exposure.path);
    for (const auto& [path, target] : exposure.links) add_link(path, target);
    if (!exposure.writable) {
        add_read_only(exposure.path, exposure.path);
        return {};
    }
    if (!S_ISDIR(info.st_mode)) {
        return fail(Code::kInvalid,
                    "--expose " + exposure.path + ":rw is not a directory; expose its directory");
    }
    return add_place(exposure.path, SandboxMount::Kind::kOverlay, 0755);
}

Status Builder::add_place(const std::string& name, SandboxMount::Kind kind, unsigned mode) {
    const std::string target = place_target(name);
    const fs::path base = run_ / "layers" / std::to_string(view_.places.size());
    WritablePlace place{name, target, base / "upper", base / "staging",
                        kind == SandboxMount::Kind::kOverlay};
    PPDSM_TRY(make_directories(place.upper));
    if (::chmod(place.upper.c_str(), mode) != 0) return fail_errno("chmod " + place.upper.string());
    PPDSM_TRY(make_directories(place.staging));
    SandboxMount mount{kind, target, place.upper, {}, {}};
    if (kind == SandboxMount::Kind::kOverlay) {
        PPDSM_TRY(make_directories(base / "work"));
        // The layer's root shows as the directory itself: it must look like the one at home.
        struct stat info{};
        if (::stat(target.c_str(), &info) != 0) return fail_errno("working directory " + target);
        if (::chmod(place.upper.c_str(), info.st_mode & 07777) != 0 ||
            (::chown(place.upper.c_str(), info.st_uid, info.st_gid) != 0 && ::geteuid() == 0)) {
            return fail_errno("prepare " + place.upper.string());
        }
        mount = {kind, target, target, place.upper, base / "work"};
    }
    view_.mounts.push_back(std::move(mount));
    view_.places.push_back(std::move(place));
    return {};
}

/// The host path at which a path of the sandbox is made: in the innermost of our own directories.
Result<fs::path> backing_path(const FileView& view, const std::string& target) {
    const SandboxMount* innermost = nullptr;
    for (const SandboxMount& mount : view.mounts) {
        // What a union is joined with is in the skeleton; its source is not ours to add to.
        if (mount.kind == SandboxMount::Kind::kUnion) continue;
        if (mount.target == target || !is_within(target, mount.target)) continue;
        if (innermost == nullptr || mount.target.size() > innermost->target.size())
            innermost = &mount;
    }
    if (innermost == nullptr) return view.skeleton / fs::path(target).relative_path();
    const fs::path rest = fs::path(target).lexically_relative(innermost->target);
    return fs::path(innermost->source) / rest;
}

}  // namespace

bool is_within(const fs::path& path, const fs::path& directory) {
    const auto [end, ignored] =
        std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
    return end == directory.end();
}

bool is_system_path(const fs::path& path) {
    return std::any_of(kSystemDirectories.begin(), kSystemDirectories.end(),
                       [&](const char* directory) { return is_within(path, directory); });
}

std::string place_target(const std::string& name) {
    if (name == "tmp") return "/tmp";
    return name == "shm" ? "/dev/shm" : name;
}

Result<FileView> build_file_view(const VcRecord& record, const VcPaths& paths, const Home& home,
                                 const fs::path& init_executable) {
    Builder builder(record, paths);
    PPDSM_TRY(builder.build(home, init_executable));
    return builder.take();
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
        PPDSM_ASSIGN(const fs::path path, backing_path(view, mount.target));
        std::error_code error;
        if (fs::exists(path, error)) continue;
        struct stat info{};
        if (::stat(mount.source.c_str(), &info) != 0) return fail_errno("expose " + mount.source);
        if (S_ISDIR(info.st_mode)) {
            PPDSM_TRY(make_directories(path));
        } else {
            PPDSM_TRY(make_directories(path.parent_path()));
            PPDSM_TRY(open_file(path, O_CREAT | O_WRONLY));
        }
    }
    return {};
}

}  // namespace ppdsm
