#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "criu-glue/files/copy_content.h"
#include "criu-glue/files/layer.h"
#include "criu-glue/files/node_metadata.h"
#include "criu-glue/files/staging.h"
#include "criu-glue/files/tree_walk.h"

namespace ppdsm {

namespace {

using Type = LayerEntry::Type;

constexpr std::int64_t kClockMarginNs = 50'000'000;
constexpr std::int64_t kSlowestWriteBytesPerMs = std::int64_t{64} << 10;

struct IdentityHash {
    std::size_t operator()(const FileIdentity& file) const noexcept {
        // Inode numbers of one file system come in runs: spread them.
        return static_cast<std::size_t>((file.inode ^ (file.device << 40)) * 0x9E3779B97F4A7C15u);
    }
};

FileIdentity identity_of(const struct stat& status) { return {status.st_dev, status.st_ino}; }

/// What an inode was when it was last captured.
struct Known {
    std::int64_t size_bytes = 0;
    std::int64_t mtime_ns = 0;
    std::int64_t ctime_ns = 0;
    std::uint32_t type = 0;
    bool settled = false;  ///< A later change cannot have left these times.
    bool mapped = false;   ///< Was mapped writable then.
    std::uint64_t round = 0;
    BlobRef content;
    Attributes attributes;
    std::string target;

    [[nodiscard]] bool still(const struct stat& status) const {
        return settled && size_bytes == status.st_size && type == (status.st_mode & S_IFMT) &&
               mtime_ns == nanoseconds(status.st_mtim) && ctime_ns == nanoseconds(status.st_ctim);
    }
};

/// One node at the cut, beside the walk's node of the same index.
struct Cut {
    enum class Origin : std::uint8_t { kKnown, kFresh, kOtherName };
    struct Entry {
        Origin origin = Origin::kFresh;
        bool mapped = false;
        std::optional<Staging::Item> content;  ///< Of a fresh regular file with any.
        Attributes attributes;
        std::string target;
    };
    TreeWalk walk;
    std::vector<Entry> entries;
    std::unordered_map<FileIdentity, std::uint32_t, IdentityHash> several_names;
    std::int64_t at_unix_ns = 0;
};

std::int64_t now_unix_ns() {
    // The clock that stamps files, so that a comparison with ctime means something.
    struct timespec now{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return nanoseconds(now);
}

bool is_whiteout(const struct stat& status) {
    return S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0);
}

Type type_of(const struct stat& status) {
    switch (status.st_mode & S_IFMT) {
        case S_IFREG: return Type::kFile;
        case S_IFDIR: return Type::kDirectory;
        case S_IFLNK: return Type::kSymlink;
        case S_IFIFO: return Type::kFifo;
        case S_IFSOCK: return Type::kSocket;
        default: return is_whiteout(status) ? Type::kWhiteout : Type::kDevice;
    }
}

Known known_from(const struct stat& status, std::int64_t captured_at_ns, std::int64_t margin_ns) {
    Known known;
    known.size_bytes = status.st_size;
    known.mtime_ns = nanoseconds(status.st_mtim);
    known.ctime_ns = nanoseconds(status.st_ctim);
    known.type = status.st_mode & S_IFMT;
    known.settled = captured_at_ns - known.ctime_ns >= margin_ns;
    return known;
}

}  // namespace

struct LayerCapture::Impl {
    Impl(std::string name_of_layer, std::filesystem::path directory_of_layer,
         std::filesystem::path staging_directory)
        : name(std::move(name_of_layer)),
          directory(std::move(directory_of_layer)),
          staging(std::move(staging_directory)) {}

    Status begin();
    Status precopy_node(ChunkStore& store, int directory_fd, const char* node_name,
                        const struct stat& seen);
    Status precopy_file(ChunkStore& store, int directory_fd, const char* node_name);
    Status cut_node(int directory_fd, const char* node_name, std::uint32_t index,
                    const std::vector<FileIdentity>& mapped);
    Status put_aside(int directory_fd, const char* node_name, const struct stat& status,
                     Cut::Entry& entry);
    Result<const Known*> settle(ChunkStore& store, std::uint32_t index);
    LayerEntry describe(const struct stat& status, std::string path, const Known& known) const;
    [[nodiscard]] Error within(const Error& error, const char* doing) const {
        return error.within(std::string(doing) + " layer " + directory.string());
    }

    std::string name;
    std::filesystem::path directory;
    Staging staging;
    OwnedFd root;
    bool times_hide_mmap_writes = false;
    std::unordered_map<FileIdentity, Known, IdentityHash> known;
    std::optional<Cut> cut;
    std::size_t expected_nodes = 0;
    std::size_t expected_name_bytes = 0;
    // A layer is known to be committed only when the next one is begun: until then its blobs may
    // still be abandoned, and nothing may be taken for stored that only they named.
    std::uint64_t round = 1;
    std::uint64_t committed_round = 0;
    bool finished = false;
};

Status LayerCapture::Impl::begin() {
    if (std::exchange(finished, false)) committed_round = round++;
    cut.reset();
    staging.clear();
    if (root.valid()) return {};
    PPDSM_TRY(staging.prepare());
    PPDSM_ASSIGN(root, open_file(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    struct statfs system{};
    if (::fstatfs(root.get(), &system) != 0) return fail_errno("statfs " + directory.string());
    times_hide_mmap_writes = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
    return {};
}

Status LayerCapture::Impl::precopy_node(ChunkStore& store, int directory_fd, const char* node_name,
                                        const struct stat& seen) {
    if (is_whiteout(seen)) return {};
    if (const auto found = known.find(identity_of(seen)); found != known.end()) {
        const Known& before = found->second;
        // A file that was mapped at the last cut will be copied at the next one anyway.
        if (before.mapped) return {};
        const bool stored = before.content.size_bytes == 0 || store.contains(before.content.root);
        if (before.still(seen) && stored) return {};
    }
    if (S_ISREG(seen.st_mode)) {
        if (times_hide_mmap_writes) return {};
        return precopy_file(store, directory_fd, node_name);
    }
    Known fresh = known_from(seen, now_unix_ns(), kClockMarginNs);
    PPDSM_ASSIGN(fresh.attributes, read_attributes(directory_fd, node_name));
    if (S_ISLNK(seen.st_mode)) {
        PPDSM_ASSIGN(fresh.target, read_link(directory_fd, node_name));
    }
    // The walk looked before we read: a change in between shows in the times at the cut.
    fresh.round = round;
    known[identity_of(seen)] = std::move(fresh);
    return {};
}

Status LayerCapture::Impl::precopy_file(ChunkStore& store, int directory_fd,
                                        const char* node_name) {
    const OwnedFd file = open_regular(directory_fd, node_name);
    if (!file.valid()) return fail_errno("open");
    // Starts the write-back, which takes write permission from the pages that are mapped: a store
    // through a mapping after this moves ctime, even if the mapping is gone before the cut.
    ::sync_file_range(file.get(), 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);
    const std::int64_t captured_at_ns = now_unix_ns();
    struct stat status{};
    if (::fstat(file.get(), &status) != 0) return fail_errno("stat");
    if (!S_ISREG(status.st_mode)) return {};
    // write(2) stamps the file before it moves the bytes.
    const std::int64_t longest_write_ns = status.st_size / kSlowestWriteBytesPerMs * 1'000'000;
    Known fresh = known_from(status, captured_at_ns, kClockMarginNs + longest_write_ns);
    PPDSM_ASSIGN(fresh.attributes, read_attributes(directory_fd, node_name));
    auto stored = store_file(store, file);
    if (!stored) {
        // A file that was truncated under the reader will be read at the cut.
        const Code code = stored.error().code();
        if (code == Code::kUnavailable || code == Code::kCorrupt) return {};
        // Without an errno that the walk would take for a file that is gone.
        const Error& error = stored.error();
        return fail(Error(error.code(), error.errno_value() == ENOSPC ? ENOSPC : 0, error.what()));
    }
    fresh.content = *stored;
    fresh.settled =
        fresh.settled && fresh.content.size_bytes == static_cast<std::uint64_t>(status.st_size);
    fresh.round = round;
    known[identity_of(status)] = std::move(fresh);
    return {};
}

Status LayerCapture::Impl::cut_node(int directory_fd, const char* node_name, std::uint32_t index,
                                    const std::vector<FileIdentity>& mapped) {
    const struct stat& status = cut->walk.nodes()[index].status;
    Cut::Entry& entry = cut->entries.emplace_back();
    if (is_whiteout(status)) return {};
    const FileIdentity file = identity_of(status);
    const bool regular = S_ISREG(status.st_mode);
    entry.mapped = regular && std::binary_search(mapped.begin(), mapped.end(), file);
    if (!S_ISDIR(status.st_mode) && status.st_nlink > 1 &&
        !cut->several_names.emplace(file, index).second) {
        entry.origin = Cut::Origin::kOtherName;
        return {};
    }
    const auto found = known.find(file);
    const bool unseen_writes =
        regular && (entry.mapped || (times_hide_mmap_writes && status.st_size > 0));
    if (found != known.end() && !found->second.mapped && !unseen_writes &&
        found->second.still(status)) {
        entry.origin = Cut::Origin::kKnown;
        return {};
    }
    PPDSM_ASSIGN(entry.attributes, read_attributes(directory_fd, node_name));
    if (S_ISLNK(status.st_mode)) {
        PPDSM_ASSIGN(entry.target, read_link(directory_fd, node_name));
    }
    if (regular && status.st_size > 0) return put_aside(directory_fd, node_name, status, entry);
    return {};
}

Status LayerCapture::Impl::put_aside(int directory_fd, const char* node_name,
                                     const struct stat& status, Cut::Entry& entry) {
    const OwnedFd file = open_regular(directory_fd, node_name);
    if (!file.valid()) return fail_errno("open (the capturing user must be able to read it)");
    struct stat opened{};
    if (::fstat(file.get(), &opened) != 0) return fail_errno("stat");
    if (identity_of(opened) != identity_of(status)) {
        return fail(Code::kUnavailable, "changed during the cut; is the program frozen?");
    }
    PPDSM_ASSIGN(entry.content, staging.put(file, static_cast<std::uint64_t>(status.st_size)));
    return {};
}

/// What is known of the node of the cut when its content is in the store.
Result<const Known*> LayerCapture::Impl::settle(ChunkStore& store, std::uint32_t index) {
    const struct stat& status = cut->walk.nodes()[index].status;
    Cut::Entry& entry = cut->entries[index];
    const FileIdentity file = identity_of(status);
    if (entry.origin == Cut::Origin::kKnown) {
        const auto found = known.find(file);
        const BlobRef& content = found->second.content;
        if (content.size_bytes > 0 && !store.contains(content.root)) {
            known.erase(found);
            return fail(Code::kUnavailable,
                        cut->walk.path_of(index) +
                            ": its stored content was abandoned; take the checkpoint again");
        }
        // A record of this round that is committed with it, or an older one that still holds.
        return &found->second;
    }
    Known fresh = known_from(status, cut->at_unix_ns, kClockMarginNs);
    if (entry.content) {
        PPDSM_ASSIGN(fresh.content, staging.store(store, *entry.content));
    }
    fresh.mapped = entry.mapped;
    fresh.attributes = std::move(entry.attributes);
    fresh.target = std::move(entry.target);
    fresh.round = round;
    entry.origin = Cut::Origin::kKnown;  // Should finish() be tried again.
    return &(known[file] = std::move(fresh));
}

LayerEntry LayerCapture::Impl::describe(const struct stat& status, std::string path,
                                        const Known& from) const {
    LayerEntry entry;
    entry.path = std::move(path);
    entry.type = type_of(status);
    entry.mode = status.st_mode & 07777u;
    entry.uid = status.st_uid;
    entry.gid = status.st_gid;
    entry.mtime_ns = nanoseconds(status.st_mtim);
    entry.target = from.target;
    entry.content = from.content;
    entry.attributes = from.attributes;
    if (entry.type == Type::kDevice) {
        entry.device = status.st_rdev;
        if (S_ISBLK(status.st_mode)) entry.target = kBlockDeviceTarget;
    }
    return entry;
}

LayerCapture::LayerCapture(std::string name, std::filesystem::path directory,
                           std::filesystem::path staging)
    : impl_(std::make_unique<Impl>(std::move(name), std::move(directory), std::move(staging))) {}

LayerCapture::LayerCapture(LayerCapture&&) noexcept = default;

LayerCapture::~LayerCapture() {
    if (impl_) impl_->staging.clear();
}

Status LayerCapture::precopy(ChunkStore& store) {
    PPDSM_TRY(impl_->begin());
    TreeWalk walk;
    walk.reserve(impl_->expected_nodes, impl_->expected_name_bytes);
    const Status walked = walk.run(impl_->root, TreeWalk::Vanished::kIsSkipped,
                                   [&](int directory_fd, const char* name, std::uint32_t index) {
                                       return impl_->precopy_node(store, directory_fd, name,
                                                                  walk.nodes()[index].status);
                                   });
    if (!walked) return fail(impl_->within(walked.error(), "precopy"));
    impl_->expected_nodes = walk.nodes().size();
    impl_->expected_name_bytes = walk.name_bytes();
    return {};
}

Status LayerCapture::cut(const std::vector<FileIdentity>& mapped_writable) {
    PPDSM_TRY(impl_->begin());
    std::vector<FileIdentity> mapped = mapped_writable;
    std::sort(mapped.begin(), mapped.end());
    Cut& cut = impl_->cut.emplace();
    cut.walk.reserve(impl_->expected_nodes + 64, impl_->expected_name_bytes + 4096);
    cut.entries.reserve(impl_->expected_nodes + 64);
    cut.at_unix_ns = now_unix_ns();
    const Status walked =
        cut.walk.run(impl_->root, TreeWalk::Vanished::kIsError,
                     [&](int directory_fd, const char* name, std::uint32_t index) {
                         return impl_->cut_node(directory_fd, name, index, mapped);
                     });
    if (!walked) {
        abandon();
        return fail(impl_->within(walked.error(), "cut"));
    }
    return {};
}

Result<Layer> LayerCapture::finish(ChunkStore& store) {
    if (!impl_->cut)
        return fail(Code::kInvalid, "finish layer " + impl_->name + ": nothing was cut");
    const std::vector<TreeWalk::Node>& nodes = impl_->cut->walk.nodes();
    Layer layer;
    layer.name = impl_->name;
    layer.entries.reserve(nodes.size());
    std::vector<FileIdentity> files;  // Beside the entries: who shares an inode.
    std::vector<std::pair<std::string, std::uint32_t>> sorted;
    sorted.reserve(nodes.size());
    std::unordered_map<FileIdentity, Known, IdentityHash> kept;
    for (std::uint32_t index = 0; index < nodes.size(); ++index) {
        sorted.emplace_back(impl_->cut->walk.path_of(index), index);
        const bool stored = is_whiteout(nodes[index].status) ||
                            impl_->cut->entries[index].origin == Cut::Origin::kOtherName;
        if (stored) continue;
        const auto known = impl_->settle(store, index);
        if (!known) return fail(impl_->within(known.error(), "store"));
        kept.emplace(identity_of(nodes[index].status), **known);
    }
    std::sort(sorted.begin(), sorted.end());
    std::unordered_map<FileIdentity, std::size_t, IdentityHash> first_names;
    const Known nothing;
    for (auto& [path, index] : sorted) {
        const struct stat& status = nodes[index].status;
        const auto known = is_whiteout(status) ? kept.end() : kept.find(identity_of(status));
        LayerEntry entry =
            impl_->describe(status, std::move(path), known == kept.end() ? nothing : known->second);
        if (entry.type != Type::kDirectory && known != kept.end() && status.st_nlink > 1) {
            const auto [first, is_first] = first_names.emplace(known->first, layer.entries.size());
            if (!is_first) {
                entry.type = Type::kHardLink;
                entry.content = {};
                entry.attributes.clear();
                entry.target = layer.entries[first->second].path;
            }
        }
        layer.entries.push_back(std::move(entry));
    }
    impl_->known = std::move(kept);  // What is gone from the layer is no longer named by it.
    impl_->cut.reset();
    impl_->staging.clear();
    impl_->finished = true;
    return layer;
}

void LayerCapture::abandon() {
    impl_->finished = false;
    impl_->cut.reset();
    impl_->staging.clear();
    std::erase_if(impl_->known, [this](const auto& entry) {
        return entry.second.round > impl_->committed_round;
    });
}

}  // namespace ppdsm
