#include "criu-glue/sandbox/root_view.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>

namespace ppdsm {

namespace {

constexpr mode_t kPhantomMode = S_IFDIR | 0111;
constexpr std::uint64_t kRootInode = 1;

constexpr std::array<std::string_view, 5> kMachineDirectories = {"/proc", "/sys", "/dev", "/run",
                                                                 "/tmp"};

bool is_within(std::string_view path, std::string_view directory) {
    return path.starts_with(directory) &&
           (path.size() == directory.size() || path[directory.size()] == '/');
}

/// `info` as the program sees it.
void clear_times(struct stat& info) { info.st_atim = info.st_mtim = info.st_ctim = {}; }

}  // namespace

RootNode RootView::find(const std::string& path) const {
    RootNode node;
    if (::lstat(source(path).c_str(), &node.info) == 0 || find_union(path, node.info)) {
        node.kind = RootNode::Kind::kOwn;
    } else {
        struct stat at_home{};
        if (is_nameless(path)) return {};
        if (!sources_.home) return {RootNode::Kind::kUnknown, {}};
        if (::lstat((*sources_.home + path).c_str(), &at_home) != 0) return {};
        if (!S_ISDIR(at_home.st_mode)) return {RootNode::Kind::kHidden, {}};
        node = {RootNode::Kind::kPhantom, {}};
        node.info.st_mode = kPhantomMode;
        node.info.st_nlink = 2;
        // The kernel itself refuses to write where the owner has no id in its namespace.
        node.info.st_uid = ::geteuid();
        node.info.st_gid = ::getegid();
    }
    node.info.st_ino = inode_of(path);
    clear_times(node.info);
    return node;
}

bool RootView::find_union(const std::string& path, struct stat& info) const {
    return std::any_of(sources_.unions.begin(), sources_.unions.end(), [&](const auto& above) {
        const auto& [target, directory] = above;
        return is_within(path, target) &&
               ::lstat((directory + path.substr(target.size())).c_str(), &info) == 0 &&
               S_ISDIR(info.st_mode);
    });
}

bool RootView::is_nameless(const std::string& path) const {
    const auto covers = [&](std::string_view directory) { return is_within(path, directory); };
    return is_machine_path(path) ||
           std::any_of(sources_.private_paths.begin(), sources_.private_paths.end(), covers);
}

bool is_machine_path(std::string_view path) {
    return std::any_of(kMachineDirectories.begin(), kMachineDirectories.end(),
                       [&](std::string_view directory) { return is_within(path, directory); });
}

std::uint64_t inode_of(const std::string& path) {
    if (path == "/") return kRootInode;
    const std::uint64_t hash = XXH3_64bits(path.data(), path.size());
    return hash > kRootInode ? hash : hash + 2;  // 0 means none, 1 is taken.
}

}  // namespace ppdsm
