// Makes a private layer again from its manifest. The manifest's paths are not trusted: they are
// checked before anything is made, and each node is made in a directory that was opened without
// following a symlink.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <string_view>
#include <unordered_map>

#include "criu-glue/files/layer.h"
#include "criu-glue/files/node_metadata.h"
#include "criu-glue/files/tree_access.h"

namespace ppdsm {

namespace {

using Type = LayerEntry::Type;
using SeenTypes = std::unordered_map<std::string_view, Type>;

bool is_sound_path(std::string_view path) {
    if (path.empty() || path.find('\0') != std::string_view::npos) return false;
    for (std::size_t begin = 0; begin <= path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string_view component = path.substr(begin, end - begin);
        if (component.empty() || component == "." || component == "..") return false;
        begin = end + 1;
    }
    return true;
}

std::string_view parent_of(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

Status check_entry(const LayerEntry& entry, const SeenTypes& seen) {
    const auto corrupt = [&](const char* why) {
        return fail(Code::kCorrupt, "layer entry \"" + entry.path + "\" " + why);
    };
    if (entry.type > Type::kHardLink || (entry.mode & ~07777u) != 0) {
        return corrupt("has an unknown type or mode");
    }
    if (entry.path.empty()) {
        if (entry.type != Type::kDirectory) return corrupt("is the root but no directory");
        return {};
    }
    if (!is_sound_path(entry.path)) return corrupt("has a path that leads out of the layer");
    const auto parent = seen.find(parent_of(entry.path));
    if (parent == seen.end() || parent->second != Type::kDirectory) {
        return corrupt("has no directory before it");
    }
    if (entry.type == Type::kHardLink) {
        const auto target = seen.find(entry.target);
        if (target == seen.end() || target->second == Type::kDirectory) {
            return corrupt("links to what is not there");
        }
    }
    if (entry.type == Type::kSymlink &&
        (entry.target.empty() || entry.target.find('\0') != std::string::npos)) {
        return corrupt("is a symlink to nowhere");
    }
    return {};
}

Status check_layer(const Layer& layer) {
    SeenTypes seen;
    seen.emplace("", Type::kDirectory);
    bool has_root = false;
    for (const LayerEntry& entry : layer.entries) {
        PPDSM_TRY(check_entry(entry, seen));
        const bool first = entry.path.empty() ? !std::exchange(has_root, true)
                                              : seen.emplace(entry.path, entry.type).second;
        if (!first) return fail(Code::kCorrupt, "layer entry \"" + entry.path + "\" comes twice");
    }
    return {};
}

class LayerRestore {
public:
    LayerRestore(ChunkStore& store, OwnedFd root, OwnedFd previous)
        : store_(store), root_(std::move(root)), previous_(std::move(previous)) {}

    Status make(const LayerEntry& entry);
    Status finish_directory(const LayerEntry& entry);

private:
    /// The entries are sorted, so that most have the same parent as the one before.
    Result<int> parent_fd(std::string_view path);
    Status make_file(int directory, const LayerEntry& entry, const std::string& name);
    OwnedFd take_previous_file(int directory, const LayerEntry& entry, const std::string& name);
    Status make_link(int directory, const LayerEntry& entry, const std::string& name);
    Status make_special(int directory, const LayerEntry& entry, const std::string& name);
    static Status write(const OwnedFd& fd, const LayerEntry& entry) {
        return write_metadata(
            fd, {entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.attributes}, nullptr);
    }

    ChunkStore& store_;
    OwnedFd root_;
    OwnedFd previous_;  ///< The layer of the incarnation before, if it is still there.
    OwnedFd parent_;
    std::string parent_path_;
};

Result<int> LayerRestore::parent_fd(std::string_view path) {
    const std::string_view wanted = parent_of(path);
    if (!parent_.valid() || wanted != parent_path_) {
        parent_.reset();
        PPDSM_ASSIGN(parent_, open_parent_beneath(root_.get(), path));
        parent_path_ = wanted;
    }
    return parent_.get();
}

Status LayerRestore::make(const LayerEntry& entry) {
    if (entry.path.empty()) return {};
    PPDSM_ASSIGN(const int directory, parent_fd(entry.path));
    const std::string name(last_component(entry.path));
    switch (entry.type) {
        case Type::kDirectory:
            // Its own mode might forbid us to fill it: that comes last.
            if (::mkdirat(directory, name.c_str(), 0700) != 0) return fail_errno("make directory");
            return {};
        case Type::kFile: return make_file(directory, entry, name);
        case Type::kHardLink: return make_link(directory, entry, name);
        default: return make_special(directory, entry, name);
    }
}

/// Moves the file of the same path over, emptied: a program that knows its file by inode (SQLite
/// does) finds it again. Invalid when there is none, or when it has other names.
OwnedFd LayerRestore::take_previous_file(int directory, const LayerEntry& entry,
                                         const std::string& name) {
    if (!previous_.valid()) return {};
    const Result<OwnedFd> parent = open_parent_beneath(previous_.get(), entry.path);
    struct stat info{};
    if (!parent || ::fstatat(parent->get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
        return {};
    if (!S_ISREG(info.st_mode) || info.st_nlink != 1) return {};
    if (::renameat(parent->get(), name.c_str(), directory, name.c_str()) != 0) return {};
    return OwnedFd(::openat(directory, name.c_str(), O_RDWR | O_TRUNC | O_NOFOLLOW | O_CLOEXEC));
}

Status LayerRestore::make_file(int directory, const LayerEntry& entry, const std::string& name) {
    OwnedFd fd = take_previous_file(directory, entry, name);
    if (!fd.valid()) {
        fd.reset(::openat(directory, name.c_str(),
                          O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    }
    if (!fd.valid()) return fail_errno("make file");
    PPDSM_TRY(write_blob_to(store_, entry.content, fd));
    return write(fd, entry);
}

Status LayerRestore::make_link(int directory, const LayerEntry& entry, const std::string& name) {
    PPDSM_ASSIGN(const OwnedFd from, open_parent_beneath(root_.get(), entry.target));
    const std::string target(last_component(entry.target));
    if (::linkat(from.get(), target.c_str(), directory, name.c_str(), 0) != 0) {
        return fail_errno("link to " + entry.target);
    }
    return {};
}

Status LayerRestore::make_special(int directory, const LayerEntry& entry, const std::string& name) {
    int made = 0;
    switch (entry.type) {
        case Type::kSymlink:
            made = ::symlinkat(entry.target.c_str(), directory, name.c_str());
            break;
        case Type::kFifo: made = ::mknodat(directory, name.c_str(), S_IFIFO | 0600, 0); break;
        case Type::kSocket: made = ::mknodat(directory, name.c_str(), S_IFSOCK | 0600, 0); break;
        case Type::kWhiteout:
            made = ::mknodat(directory, name.c_str(), S_IFCHR, makedev(0, 0));
            break;
        default: {
            const mode_t kind = entry.target == kBlockDeviceTarget ? S_IFBLK : S_IFCHR;
            made = ::mknodat(directory, name.c_str(), kind | 0600, entry.device);
        }
    }
    if (made != 0) return fail_errno("make a node");
    PPDSM_ASSIGN(const OwnedFd fd, pin_node(directory, name.c_str()));
    return write(fd, entry);
}

Status LayerRestore::finish_directory(const LayerEntry& entry) {
    if (entry.path.empty()) return write(root_, entry);
    PPDSM_ASSIGN(const int directory, parent_fd(entry.path));
    PPDSM_ASSIGN(const OwnedFd fd,
                 pin_node(directory, std::string(last_component(entry.path)).c_str()));
    return write(fd, entry);
}

Result<OwnedFd> open_empty_directory(const std::filesystem::path& directory) {
    PPDSM_TRY(make_directories(directory));
    PPDSM_ASSIGN(OwnedFd root, open_file(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    PPDSM_ASSIGN(const std::vector<std::string> names, sorted_names(root.get()));
    if (!names.empty()) {
        return fail(Code::kInvalid, directory.string() + " is not empty (\"" + names.front() +
                                        "\" lies in it); a layer is restored into an empty one");
    }
    return root;
}

}  // namespace

Status restore_layer(ChunkStore& store, const Layer& layer, const std::filesystem::path& directory,
                     const std::filesystem::path& previous) {
    const auto within = [&](const Error& error, const LayerEntry& entry) {
        return fail(error.within("restore \"" + entry.path + "\" of layer " + layer.name + " to " +
                                 directory.string()));
    };
    if (Status sound = check_layer(layer); !sound) {
        return fail(sound.error().within("layer " + layer.name));
    }
    PPDSM_ASSIGN(OwnedFd root, open_empty_directory(directory));
    OwnedFd old_root(previous.empty() ? -1
                                      : ::open(previous.c_str(),
                                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    LayerRestore restore(store, std::move(root), std::move(old_root));
    for (const LayerEntry& entry : layer.entries) {
        if (Status made = restore.make(entry); !made) return within(made.error(), entry);
    }
    // Children before their parents: a child's making moves its parent's time.
    for (auto entry = layer.entries.rbegin(); entry != layer.entries.rend(); ++entry) {
        if (entry->type != Type::kDirectory) continue;
        if (Status done = restore.finish_directory(*entry); !done) {
            return within(done.error(), *entry);
        }
    }
    return {};
}

}  // namespace ppdsm
