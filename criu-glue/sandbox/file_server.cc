#include "criu-glue/sandbox/file_server.h"

#define FUSE_USE_VERSION 314
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <list>
#include <map>
#include <unordered_map>

#include "criu-glue/sandbox/file_channel.h"
#include "criu-glue/sandbox/file_tree.h"
#include "dsm/base/files.h"

namespace ppdsm {

namespace {

using Node = FileTree::Node;

constexpr double kForEverSeconds = 1e9;
constexpr std::uint64_t kMostListingBytes = std::uint64_t{256} << 20;
/// Descriptors are for reading, and what was read stays in the kernel's pages.
constexpr std::size_t kMostOpenContents = 768;
constexpr int kRequestsAtOnce = 32;
/// The kernel's default is 128, which makes many questions of a compiler's start.
constexpr const char* kReadAheadKib = "512";

/// The descriptors of contents, the last used ones.
class OpenContents {
public:
    [[nodiscard]] int find(Node node) {
        const auto found = by_node_.find(node);
        if (found == by_node_.end()) return -1;
        by_use_.splice(by_use_.begin(), by_use_, found->second);
        return found->second->fd.get();
    }
    void put(Node node, OwnedFd fd) {
        if (by_node_.contains(node)) return;
        if (by_use_.size() >= kMostOpenContents) {
            by_node_.erase(by_use_.back().node);
            by_use_.pop_back();
        }
        by_use_.push_front({node, std::move(fd)});
        by_node_.emplace(node, by_use_.begin());
    }

private:
    struct Content {
        Node node;
        OwnedFd fd;
    };
    std::list<Content> by_use_;
    std::unordered_map<Node, std::list<Content>::iterator> by_node_;
};

Result<Bytes> read_whole(const OwnedFd& file) {
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) return fail_errno("look at a listing");
    const auto size_bytes = static_cast<std::uint64_t>(info.st_size);
    if (size_bytes > kMostListingBytes) return fail(Code::kCorrupt, "a listing is too long");
    Bytes bytes(size_bytes);
    PPDSM_TRY(read_exactly_at(file, bytes, 0));
    return bytes;
}

/// The state behind the requests: single-threaded, nothing waits.
class FileServer {
public:
    FileServer(const std::vector<std::string>& roots, FileChannel channel, RefusalLog log)
        : tree_(roots), channel_(std::move(channel)), log_(std::move(log)) {}

    using Then = std::function<void(bool is_there)>;
    [[nodiscard]] FileTree& tree() { return tree_; }
    /// Calls `then` at once when it is there already.
    void need_listing(Node node, Then then);
    void need_attributes(Node node, Then then) {
        if (tree_.has_attributes(node)) return then(true);
        need_listing(node, std::move(then));
    }
    /// -1: it cannot be had.
    void need_content(Node node, std::function<void(int fd)> then);

    int serve(fuse_session* session, const std::string& read_ahead);

private:
    struct Asked {
        Node node;
        FileRequest::Kind kind;
        std::vector<Then> waiting;
    };
    void ask(Node node, FileRequest::Kind kind, Then then);
    bool take_given(Node node, FileRequest::Kind kind);
    void take_replies();
    Status take(const Asked& asked, FileReply reply);
    void lose_channel(const Error& error);

    FileTree tree_;
    FileChannel channel_;
    RefusalLog log_;
    OpenContents contents_;
    std::unordered_map<std::uint64_t, Asked> asked_;
    /// Given before it was asked for.
    std::map<std::pair<FileRequest::Kind, std::string>, OwnedFd> given_;
    std::uint64_t last_id_ = 0;
    std::optional<std::string> lost_;  ///< Why nobody answers any more.
};

void FileServer::need_listing(Node node, Then then) {
    if (tree_.is_listed(node)) return then(true);
    ask(node, FileRequest::Kind::kList, std::move(then));
}

void FileServer::need_content(Node node, std::function<void(int)> then) {
    if (const int fd = contents_.find(node); fd >= 0) return then(fd);
    ask(node, FileRequest::Kind::kContent, [this, node, then = std::move(then)](bool is_there) {
        then(is_there ? contents_.find(node) : -1);
    });
}

void FileServer::ask(Node node, FileRequest::Kind kind, Then then) {
    for (auto& [id, asked] : asked_) {
        if (asked.node == node && asked.kind == kind) {
            asked.waiting.push_back(std::move(then));
            return;
        }
    }
    if (take_given(node, kind)) return then(true);
    if (lost_) {
        log_.note_unfetched(tree_.path(node), *lost_);
        return then(false);
    }
    const std::uint64_t id = ++last_id_;
    static_assert(kUnasked == 0);
    asked_.emplace(id, Asked{node, kind, {}}).first->second.waiting.push_back(std::move(then));
    if (Status sent = channel_.send(FileRequest{id, kind, tree_.path(node)}); !sent) {
        lose_channel(sent.error());
    }
}

bool FileServer::take_given(Node node, FileRequest::Kind kind) {
    const auto found = given_.find({kind, tree_.path(node)});
    if (found == given_.end()) return false;
    FileReply reply{kUnasked, std::move(found->second), {}, {}, {}};
    given_.erase(found);
    if (!take({node, kind, {}}, std::move(reply))) return false;
    // Whoever gave it learns that it was good for something.
    if (!lost_) (void)channel_.send(FileRequest{kUnasked, kind, tree_.path(node)});
    return true;
}

void FileServer::take_replies() {
    while (!lost_) {
        Result<std::optional<FileReply>> reply = channel_.receive_reply();
        if (!reply) return lose_channel(reply.error());
        if (!*reply) return;
        if ((*reply)->id == kUnasked) {
            given_.insert_or_assign({(*reply)->kind, (*reply)->path}, std::move((*reply)->file));
            continue;
        }
        const auto found = asked_.find((*reply)->id);
        if (found == asked_.end()) continue;
        const Asked asked = std::move(found->second);
        asked_.erase(found);
        const Status taken = take(asked, *std::move(*reply));
        if (!taken) log_.note_unfetched(tree_.path(asked.node), taken.error().message());
        for (const Then& then : asked.waiting) then(taken.has_value());
    }
}

Status FileServer::take(const Asked& asked, FileReply reply) {
    if (!reply.file.valid()) {
        return fail(Code::kUnavailable, reply.reason.empty() ? "no descriptor came" : reply.reason);
    }
    if (asked.kind == FileRequest::Kind::kContent) {
        contents_.put(asked.node, std::move(reply.file));
        return {};
    }
    PPDSM_ASSIGN(const Bytes bytes, read_whole(reply.file));
    PPDSM_ASSIGN(DirectoryListing listing, decode_listing(bytes));
    tree_.put_listing(asked.node, std::move(listing));
    return {};
}

void FileServer::lose_channel(const Error& error) {
    if (lost_) return;
    lost_ = "nobody fetches files any more: " + error.message();
    const auto asked = std::exchange(asked_, {});
    for (const auto& [id, question] : asked) {
        log_.note_unfetched(tree_.path(question.node), *lost_);
        for (const Then& then : question.waiting) then(false);
    }
}

int FileServer::serve(fuse_session* session, const std::string& read_ahead) {
    const int device = fuse_session_fd(session);
    ::fcntl(device, F_SETFL, ::fcntl(device, F_GETFL) | O_NONBLOCK);
    fuse_buf buffer{};
    bool is_tuned = read_ahead.empty();
    while (fuse_session_exited(session) == 0) {
        const short wanted = static_cast<short>(POLLIN | (channel_.has_unsent() ? POLLOUT : 0));
        std::array<pollfd, 2> waits{
            {{device, POLLIN, 0}, {lost_ ? -1 : channel_.fd().get(), wanted, 0}}};
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return 1;
        if ((waits[1].revents & POLLOUT) != 0) {
            if (Status sent = channel_.flush(); !sent) lose_channel(sent.error());
        }
        if ((waits[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0) take_replies();
        for (int i = 0; i < kRequestsAtOnce && waits[0].revents != 0; ++i) {
            const int got = fuse_session_receive_buf(session, &buffer);
            if (got == -EINTR) continue;
            if (got <= 0) break;
            fuse_session_process_buf(session, &buffer);
        }
        // The answer to the kernel's first request would undo it. Root's to change, and a help
        // only.
        if (waits[0].revents != 0 && !std::exchange(is_tuned, true)) {
            const Result<OwnedFd> setting = open_file(read_ahead, O_WRONLY);
            if (setting) (void)write_all(*setting, as_bytes(kReadAheadKib));
        }
    }
    std::free(buffer.mem);
    return 0;
}

FileServer& server_of(fuse_req_t request) {
    return *static_cast<FileServer*>(fuse_req_userdata(request));
}

void start(void* /*server*/, fuse_conn_info* connection) {
    connection->want |= connection->capable &
                        (FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                         FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ);
    // Nothing ever changes: no page is ever dropped for a new time or size.
    connection->want &= ~static_cast<unsigned>(FUSE_CAP_AUTO_INVAL_DATA);
}

fuse_entry_param entry_of(const FileTree& tree, Node node) {
    fuse_entry_param entry{};
    entry.ino = node;
    entry.attr = tree.info(node);
    entry.attr_timeout = entry.entry_timeout = kForEverSeconds;
    return entry;
}

void look_up(fuse_req_t request, fuse_ino_t parent, const char* name) {
    FileServer& server = server_of(request);
    server.need_listing(parent, [&server, request, parent, name = std::string(name)](bool listed) {
        if (!listed) return void(fuse_reply_err(request, EIO));
        const std::optional<Node> node = server.tree().child(parent, name);
        if (!node) {
            fuse_entry_param none{};  // Inode 0: there is none, which the kernel remembers too.
            none.entry_timeout = kForEverSeconds;
            return void(fuse_reply_entry(request, &none));
        }
        server.need_attributes(*node, [&server, request, node = *node](bool is_there) {
            if (!is_there) return void(fuse_reply_err(request, EIO));
            const fuse_entry_param entry = entry_of(server.tree(), node);
            fuse_reply_entry(request, &entry);
        });
    });
}

void get_attributes(fuse_req_t request, fuse_ino_t node, fuse_file_info* /*file*/) {
    FileServer& server = server_of(request);
    server.need_attributes(node, [&server, request, node](bool is_there) {
        if (!is_there) return void(fuse_reply_err(request, EIO));
        const struct stat info = server.tree().info(node);
        fuse_reply_attr(request, &info, kForEverSeconds);
    });
}

void read_link(fuse_req_t request, fuse_ino_t node) {
    fuse_reply_readlink(request, server_of(request).tree().link_target(node).c_str());
}

void read_content(fuse_req_t request, fuse_ino_t node, std::size_t size_bytes, off_t offset_bytes,
                  fuse_file_info* /*file*/) {
    server_of(request).need_content(node, [request, size_bytes, offset_bytes](int fd) {
        if (fd < 0) return void(fuse_reply_err(request, EIO));
        fuse_bufvec source = FUSE_BUFVEC_INIT(size_bytes);
        source.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
        source.buf[0].fd = fd;
        source.buf[0].pos = offset_bytes;
        fuse_reply_data(request, &source, FUSE_BUF_SPLICE_MOVE);
    });
}

/// Entry `i` of a listing, "." and ".." first. Returns its size; nothing is added if that is more
/// than `room_bytes`.
std::size_t add_entry(fuse_req_t request, FileTree& tree, Node directory, std::size_t i, bool plus,
                      char* into, std::size_t room_bytes) {
    static const FileTree::Child kSelf{".", S_IFDIR};
    static const FileTree::Child kAbove{"..", S_IFDIR};
    const FileTree::Child& child =
        i == 0 ? kSelf : (i == 1 ? kAbove : tree.children(directory)[i - 2]);
    fuse_entry_param entry{};  // Inode 0: the kernel learns the name only.
    const std::string prefix = directory == FileTree::kTop ? "" : tree.path(directory);
    const std::string path = i < 2 ? tree.path(directory) : prefix + "/" + child.name;
    entry.attr.st_ino = FileTree::inode_of_path(path);
    entry.attr.st_mode = child.type;
    const auto next = static_cast<off_t>(i + 1);
    if (!plus) {
        return fuse_add_direntry(request, into, room_bytes, child.name.c_str(), &entry.attr, next);
    }
    if (i >= 2) {
        const std::optional<Node> node = tree.child(directory, child.name);
        if (node && tree.has_attributes(*node)) entry = entry_of(tree, *node);
    }
    return fuse_add_direntry_plus(request, into, room_bytes, child.name.c_str(), &entry, next);
}

void read_listing(fuse_req_t request, Node directory, std::size_t size_bytes, off_t offset,
                  bool plus) {
    FileServer& server = server_of(request);
    server.need_listing(directory, [=, &server](bool listed) {
        if (!listed) return void(fuse_reply_err(request, EIO));
        FileTree& tree = server.tree();
        const std::size_t count = tree.children(directory).size() + 2;
        std::vector<char> part(size_bytes);
        std::size_t used_bytes = 0;
        for (auto i = static_cast<std::size_t>(offset); i < count; ++i) {
            const std::size_t room_bytes = size_bytes - used_bytes;
            const std::size_t entry_bytes =
                add_entry(request, tree, directory, i, plus, part.data() + used_bytes, room_bytes);
            if (entry_bytes > room_bytes) break;
            used_bytes += entry_bytes;
        }
        fuse_reply_buf(request, part.data(), used_bytes);
    });
}

/// ENOSYS: the kernel opens by itself from now on, keeps what it read, and asks no more.
void open_by_yourself(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* /*file*/) {
    fuse_reply_err(request, ENOSYS);
}

/// What is not here answers ENOSYS, after which the kernel does not ask again (extended attributes,
/// flush), or a harmless default (statfs). Writes do not come: the mount is read-only.
fuse_lowlevel_ops operations() {
    fuse_lowlevel_ops calls{};
    calls.init = start;
    calls.lookup = look_up;
    calls.getattr = get_attributes;
    calls.readlink = read_link;
    calls.open = open_by_yourself;
    calls.read = read_content;
    calls.opendir = open_by_yourself;
    calls.readdir = [](auto request, auto node, auto size_bytes, auto offset, auto) {
        read_listing(request, node, size_bytes, offset, false);
    };
    calls.readdirplus = [](auto request, auto node, auto size_bytes, auto offset, auto) {
        read_listing(request, node, size_bytes, offset, true);
    };
    return calls;
}

/// Of the mount at `path`, whose server need not answer for it.
std::string read_ahead_setting(const std::string& path) {
    struct statx info{};
    if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, 0, &info) != 0) return {};
    return "/sys/class/bdi/" + std::to_string(info.stx_dev_major) + ":" +
           std::to_string(info.stx_dev_minor) + "/read_ahead_kb";
}

/// As many descriptors as we may have.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

Result<FileMount> mount_files(const std::string& path) {
    PPDSM_TRY(make_directories(path));
    PPDSM_ASSIGN(OwnedFd device, open_file("/dev/fuse", O_RDWR));
    const std::string options = "fd=" + std::to_string(device.get()) +
                                ",rootmode=40000,user_id=" + std::to_string(::geteuid()) +
                                ",group_id=" + std::to_string(::getegid()) +
                                ",allow_other,default_permissions";
    if (::mount("ppdsm-files", path.c_str(), "fuse", MS_NOSUID | MS_NODEV | MS_RDONLY,
                options.c_str()) != 0) {
        return fail_errno("mount the owner's files");
    }
    return FileMount{std::move(device), read_ahead_setting(path)};
}

void serve_files(FileMount mount, OwnedFd channel, const std::vector<std::string>& roots,
                 RefusalLog log) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    ::prctl(PR_SET_NAME, kFileServerName);
    raise_descriptor_limit();
    FileServer server(roots, FileChannel(std::move(channel)), std::move(log));
    const fuse_lowlevel_ops calls = operations();
    std::array<char*, 1> arguments = {const_cast<char*>(kFileServerName)};
    fuse_args options = FUSE_ARGS_INIT(static_cast<int>(arguments.size()), arguments.data());
    fuse_session* session = fuse_session_new(&options, &calls, sizeof calls, &server);
    // A path of this form names a descriptor that is mounted already.
    const std::string mounted = "/dev/fd/" + std::to_string(mount.device.get());
    if (session == nullptr || fuse_session_mount(session, mounted.c_str()) != 0) _exit(1);
    _exit(server.serve(session, mount.read_ahead));
}

}  // namespace ppdsm
