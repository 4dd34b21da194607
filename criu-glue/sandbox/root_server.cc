#include "criu-glue/sandbox/root_server.h"

#define FUSE_USE_VERSION 314
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <unordered_map>
#include <vector>

#include "criu-glue/sandbox/mount_tree.h"
#include "dsm/base/check.h"
#include "dsm/base/files.h"

namespace ppdsm {

namespace {

constexpr double kForEverSeconds = 1e9;

/// The state behind the requests. Inode numbers are those of RootView. Paths are never forgotten:
/// there are no more than the directories of home and what the skeleton has.
class RootServer {
public:
    RootServer(RootView view, RefusalLog log) : view_(std::move(view)), log_(std::move(log)) {
        paths_.emplace(FUSE_ROOT_ID, "/");
    }

    [[nodiscard]] const RootView& view() const { return view_; }
    [[nodiscard]] const std::string& path(fuse_ino_t inode) const {
        const auto found = paths_.find(inode);
        PPDSM_CHECK(found != paths_.end());
        return found->second;
    }
    [[nodiscard]] std::string child(fuse_ino_t parent, const char* name) const {
        const std::string& directory = path(parent);
        return (directory == "/" ? "" : directory) + "/" + name;
    }
    [[nodiscard]] RootNode node(fuse_ino_t inode) const { return view_.find(path(inode)); }
    /// The kernel may use its inode number from here on.
    void remember(const std::string& path) { paths_.emplace(inode_of(path), path); }
    void note(RefusalLog::Kind kind, const std::string& path) { log_.note(kind, path); }

private:
    RootView view_;
    RefusalLog log_;
    std::unordered_map<fuse_ino_t, std::string> paths_;
};

RootServer& server_of(fuse_req_t request) {
    return *static_cast<RootServer*>(fuse_req_userdata(request));
}

void start(void* /*server*/, fuse_conn_info* connection) {
    // /bin, /lib and /lib64 are links in the way of every program's start.
    connection->want |= connection->capable & FUSE_CAP_CACHE_SYMLINKS;
    connection->want &= ~static_cast<unsigned>(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
}

void look_up(fuse_req_t request, fuse_ino_t parent, const char* name) {
    RootServer& server = server_of(request);
    const std::string path = server.child(parent, name);
    const RootNode node = server.view().find(path);
    fuse_entry_param entry{};  // Inode 0: there is none, which the kernel remembers too.
    entry.attr_timeout = entry.entry_timeout = kForEverSeconds;
    if (node.is_shown()) {
        server.remember(path);
        entry.ino = node.info.st_ino;
        entry.attr = node.info;
    } else if (node.kind == RootNode::Kind::kHidden) {
        server.note(RefusalLog::Kind::kNotExposed, path);
    } else if (node.kind == RootNode::Kind::kUnknown) {
        server.note(RefusalLog::Kind::kAbsent, path);
    }
    fuse_reply_entry(request, &entry);
}

void get_attributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info* /*file*/) {
    const RootNode node = server_of(request).node(inode);
    if (!node.is_shown()) {
        fuse_reply_err(request, ENOENT);
        return;
    }
    fuse_reply_attr(request, &node.info, kForEverSeconds);
}

void read_link(fuse_req_t request, fuse_ino_t inode) {
    const RootServer& server = server_of(request);
    std::error_code error;
    const auto target =
        std::filesystem::read_symlink(server.view().source(server.path(inode)), error);
    if (error) {
        fuse_reply_err(request, error.value());
        return;
    }
    fuse_reply_readlink(request, target.c_str());
}

/// Asking whether a write would be allowed is none yet: it is refused, not noted.
void check_access(fuse_req_t request, fuse_ino_t inode, int mask) {
    const RootNode node = server_of(request).node(inode);
    const bool is_denied = ((mask & R_OK) != 0 && node.kind == RootNode::Kind::kPhantom) ||
                           ((mask & X_OK) != 0 && (node.info.st_mode & 0111) == 0);
    const int refusal = (mask & W_OK) != 0 ? EROFS : EACCES;
    fuse_reply_err(request, is_denied || (mask & W_OK) != 0 ? refusal : 0);
}

void refuse_write(fuse_req_t request, const std::string& path) {
    server_of(request).note(RefusalLog::Kind::kWrite, path);
    fuse_reply_err(request, EROFS);
}
void refuse_write_of(fuse_req_t request, fuse_ino_t inode) {
    refuse_write(request, server_of(request).path(inode));
}
void refuse_write_at(fuse_req_t request, fuse_ino_t parent, const char* name) {
    refuse_write(request, server_of(request).child(parent, name));
}

/// Only the skeleton's own files can be opened: there is no inode for any other.
void open_own(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file) {
    const RootServer& server = server_of(request);
    if ((file->flags & O_ACCMODE) != O_RDONLY || (file->flags & O_TRUNC) != 0) {
        return refuse_write_of(request, inode);
    }
    Result<OwnedFd> source =
        open_file(server.view().source(server.path(inode)), O_RDONLY | O_NOFOLLOW);
    if (!source) {
        fuse_reply_err(request, EIO);
        return;
    }
    file->fh = static_cast<std::uint64_t>(source->release());
    file->keep_cache = 1;
    fuse_reply_open(request, file);
}

void read_own(fuse_req_t request, fuse_ino_t /*inode*/, std::size_t size_bytes, off_t offset_bytes,
              fuse_file_info* file) {
    fuse_bufvec source = FUSE_BUFVEC_INIT(size_bytes);
    source.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
    source.buf[0].fd = static_cast<int>(file->fh);
    source.buf[0].pos = offset_bytes;
    fuse_reply_data(request, &source, FUSE_BUF_SPLICE_MOVE);
}

void release_own(fuse_req_t request, fuse_ino_t /*inode*/, fuse_file_info* file) {
    const OwnedFd source(static_cast<int>(file->fh));
    fuse_reply_err(request, 0);
}

void open_directory(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file) {
    RootServer& server = server_of(request);
    if (server.node(inode).kind == RootNode::Kind::kPhantom) {
        server.note(RefusalLog::Kind::kNotExposed, server.path(inode));
        fuse_reply_err(request, EACCES);
        return;
    }
    file->keep_cache = file->cache_readdir = 1;
    fuse_reply_open(request, file);
}

/// In an order that does not change, since a listing may come in several parts.
std::vector<std::string> sorted_names(const std::string& directory) {
    std::vector<std::string> names = {".", ".."};
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
        names.push_back(entry.path().filename());
    }
    std::sort(names.begin() + 2, names.end());
    return names;
}

void read_directory(fuse_req_t request, fuse_ino_t inode, std::size_t size_bytes, off_t offset,
                    fuse_file_info* /*file*/) {
    const RootServer& server = server_of(request);
    const auto names = sorted_names(server.view().source(server.path(inode)));
    std::vector<char> part(size_bytes);
    std::size_t used_bytes = 0;
    for (auto i = static_cast<std::size_t>(offset); i < names.size(); ++i) {
        const std::string path = i < 2 ? server.path(inode) : server.child(inode, names[i].c_str());
        const RootNode node = server.view().find(path);
        const std::size_t entry_bytes =
            fuse_add_direntry(request, part.data() + used_bytes, size_bytes - used_bytes,
                              names[i].c_str(), &node.info, static_cast<off_t>(i + 1));
        if (entry_bytes > size_bytes - used_bytes) break;
        used_bytes += entry_bytes;
    }
    fuse_reply_buf(request, part.data(), used_bytes);
}

/// What is not here answers ENOSYS, after which the kernel does not ask again (extended
/// attributes, flush), or a harmless default (statfs).
fuse_lowlevel_ops operations() {
    fuse_lowlevel_ops calls{};
    calls.init = start;
    calls.lookup = look_up;
    calls.getattr = get_attributes;
    calls.readlink = read_link;
    calls.access = check_access;
    calls.open = open_own;
    calls.read = read_own;
    calls.release = release_own;
    calls.opendir = open_directory;
    calls.readdir = read_directory;
    calls.create = [](auto request, auto parent, auto name, auto, auto) {
        refuse_write_at(request, parent, name);
    };
    calls.mkdir = [](auto request, auto parent, auto name, auto) {
        refuse_write_at(request, parent, name);
    };
    calls.mknod = [](auto request, auto parent, auto name, auto, auto) {
        refuse_write_at(request, parent, name);
    };
    calls.symlink = [](auto request, auto, auto parent, auto name) {
        refuse_write_at(request, parent, name);
    };
    calls.link = [](auto request, auto, auto parent, auto name) {
        refuse_write_at(request, parent, name);
    };
    calls.unlink = refuse_write_at;
    calls.rmdir = refuse_write_at;
    calls.rename = [](auto request, auto parent, auto name, auto, auto, auto) {
        refuse_write_at(request, parent, name);
    };
    calls.setattr = [](auto request, auto inode, auto, auto, auto) {
        refuse_write_of(request, inode);
    };
    calls.setxattr = [](auto request, auto inode, auto, auto, auto, auto) {
        refuse_write_of(request, inode);
    };
    calls.removexattr = [](auto request, auto inode, auto) { refuse_write_of(request, inode); };
    return calls;
}

}  // namespace

Result<OwnedFd> mount_root() {
    PPDSM_TRY(make_directories(kTreeRoot));
    PPDSM_ASSIGN(OwnedFd device, open_file("/dev/fuse", O_RDWR));
    // No default_permissions: the kernel then asks about access(2), and lets pass everywhere.
    const std::string options = "fd=" + std::to_string(device.get()) +
                                ",rootmode=40000,user_id=" + std::to_string(::geteuid()) +
                                ",group_id=" + std::to_string(::getegid()) + ",allow_other";
    if (::mount("ppdsm", kTreeRoot, "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
        return fail_errno("mount the sandbox's root");
    }
    return device;
}

void serve_root(OwnedFd device, RootView view, RefusalLog log) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    ::prctl(PR_SET_NAME, kRootServerName);
    RootServer server(std::move(view), std::move(log));
    const fuse_lowlevel_ops calls = operations();
    std::array<char*, 1> arguments = {const_cast<char*>(kRootServerName)};
    fuse_args options = FUSE_ARGS_INIT(static_cast<int>(arguments.size()), arguments.data());
    fuse_session* session = fuse_session_new(&options, &calls, sizeof calls, &server);
    // A path of this form names a descriptor that is mounted already.
    const std::string mounted = "/dev/fd/" + std::to_string(device.get());
    if (session == nullptr || fuse_session_mount(session, mounted.c_str()) != 0) _exit(1);
    _exit(fuse_session_loop(session));
}

}  // namespace ppdsm
