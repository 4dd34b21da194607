#include "criu-glue/files/home_tree.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "criu-glue/files/copy_content.h"
#include "criu-glue/files/tree_access.h"

namespace ppdsm {

namespace {

constexpr std::size_t kNameBytes = 255;

/// A directory that its owner may not change is opened for its owner; root needs nothing.
Status make_writable(int directory_fd, const struct stat& status, const char* name) {
    if (::geteuid() == 0 || (status.st_mode & S_IRWXU) == S_IRWXU) return {};
    if (::fchmodat(directory_fd, name, (status.st_mode & 07777u) | S_IRWXU, 0) != 0) {
        return fail_errno("make writable");
    }
    return {};
}

}  // namespace

Result<std::optional<struct stat>> look_at(int directory_fd, const char* name) {
    struct stat status{};
    if (::fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0) return status;
    if (errno == ENOENT) return std::optional<struct stat>();
    return fail_errno("look at");
}

std::string name_with_suffix(std::string_view stem, std::string_view suffix) {
    return std::string(stem.substr(0, kNameBytes - suffix.size())) + std::string(suffix);
}

HomeTree::HomeTree(const HomeBaseline& baseline,
                   const std::vector<std::pair<std::string, std::int64_t>>& applied,
                   ApplyReport& report)
    : started_unix_ns_(baseline.started_unix_ns()),
      applied_(applied.begin(), applied.end()),
      report_(report) {
    char suffix[32];
    std::snprintf(suffix, sizeof suffix, ".ppdsm-%016llx",
                  static_cast<unsigned long long>(started_unix_ns_));
    pending_suffix_ = suffix;
}

bool HomeTree::changed(const std::string& path, const struct stat& status) const {
    return touched(status) && !left_by_us(path, status);
}

bool HomeTree::touched(const struct stat& status) const {
    return nanoseconds(status.st_ctim) > started_unix_ns_;
}

void HomeTree::left(const std::string& path, const struct stat& status) {
    applied_[path] = nanoseconds(status.st_ctim);
}

bool HomeTree::left_by_us(const std::string& path, const struct stat& status) const {
    const auto found = applied_.find(path);
    if (found == applied_.end()) return false;
    const std::int64_t ctime_ns = nanoseconds(status.st_ctim);
    if (found->second == ctime_ns) return true;
    const auto moved = moved_.find(status.st_ino);
    return moved != moved_.end() && moved->second == std::pair(found->second, ctime_ns);
}

void HomeTree::name_taken(const OwnedFd& node, const struct stat& before) {
    struct stat after{};
    if (before.st_nlink < 2 || !node.valid() || ::fstat(node.get(), &after) != 0) return;
    const std::int64_t before_ns = nanoseconds(before.st_ctim);
    const auto [moved, is_first] = moved_.try_emplace(before.st_ino, before_ns, before_ns);
    // Somebody else's change in between stays one.
    if (!is_first && moved->second.second != before_ns) return;
    moved->second.second = nanoseconds(after.st_ctim);
}

std::vector<std::pair<std::string, std::int64_t>> HomeTree::applied() const {
    std::vector<std::pair<std::string, std::int64_t>> sorted(applied_.begin(), applied_.end());
    std::sort(sorted.begin(), sorted.end());
    return sorted;
}

std::string HomeTree::pending_name(std::string_view name) const {
    return name_with_suffix("." + std::string(name), pending_suffix_);
}

Status HomeTree::remove_pending(int directory_fd) {
    PPDSM_ASSIGN(const std::vector<std::string> names, sorted_names(directory_fd));
    for (const std::string& name : names) {
        if (!name.starts_with('.') || !name.ends_with(pending_suffix_)) continue;
        PPDSM_TRY(remove(directory_fd, name.c_str(), name, Spare::kNothing));
    }
    return {};
}

Status HomeTree::remove_vanished(int upper_root_fd, int home_root_fd) {
    const auto absent = [](const Error& error) {
        return error.errno_value() == ENOENT || error.errno_value() == ENOTDIR ||
               error.errno_value() == ELOOP;
    };
    const auto entries = applied();
    // From the end: children before their directories.
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        std::string path = entry->first;
        if (path.find(kConflictMark) != std::string::npos) continue;
        const bool directory = path.ends_with('/');
        if (directory) path.pop_back();
        const std::string name(last_component(path));
        const auto upper = open_parent_beneath(upper_root_fd, path);
        if (!upper && !absent(upper.error())) return fail(upper.error().within(path));
        if (upper) {
            PPDSM_ASSIGN(const auto still, look_at(upper->get(), name.c_str()));
            if (still) continue;
        }
        const auto home = open_parent_beneath(home_root_fd, path);
        if (!home && !absent(home.error())) return fail(home.error().within(path));
        if (home && directory) {
            ::unlinkat(home->get(), name.c_str(), AT_REMOVEDIR);  // Unless home put something in.
        } else if (home) {
            PPDSM_ASSIGN(const bool gone, remove(home->get(), name.c_str(), path, Spare::kChanged));
            if (gone) report_.removed.push_back(path);
        }
        applied_.erase(entry->first);
    }
    return {};
}

Result<bool> HomeTree::remove(int directory_fd, const char* name, const std::string& path,
                              Spare spare, int depth) {
    PPDSM_ASSIGN(const auto status, look_at(directory_fd, name));
    if (!status) return true;
    if (S_ISDIR(status->st_mode)) {
        PPDSM_TRY(make_writable(directory_fd, *status, name));
        return remove_directory(directory_fd, name, path, spare, depth);
    }
    if (spare == Spare::kChanged && changed(path, *status)) {
        report_.conflicts.emplace_back(path, "");
        return false;
    }
    const OwnedFd node(::openat(directory_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (::unlinkat(directory_fd, name, 0) != 0 && errno != ENOENT) {
        return fail_errno("remove " + path);
    }
    name_taken(node, *status);
    applied_.erase(path);
    return true;
}

Result<bool> HomeTree::remove_directory(int directory_fd, const char* name, const std::string& path,
                                        Spare spare, int depth) {
    if (depth >= kMaxTreeDepth) return fail(too_deep(path));
    bool all_gone = true;
    {
        PPDSM_ASSIGN(const OwnedFd inner, open_directory_at(directory_fd, name));
        PPDSM_ASSIGN(const std::vector<std::string> names, sorted_names(inner.get()));
        for (const std::string& child : names) {
            PPDSM_ASSIGN(const bool gone, remove(inner.get(), child.c_str(), join_path(path, child),
                                                 spare, depth + 1));
            all_gone = all_gone && gone;
        }
    }
    if (!all_gone) return false;
    if (::unlinkat(directory_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
        applied_.erase(path + "/");
        return true;
    }
    // Somebody at home has just put something there.
    if (errno == ENOTEMPTY) return false;
    return fail_errno("remove directory " + path);
}

}  // namespace ppdsm
