#include "runtime/peer/program_files/file_owner.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <list>
#include <unordered_map>
#include <utility>

#include "criu-glue/sandbox/directory_listing.h"
#include "runtime/peer/file_view.h"
#include "runtime/peer/program_files/pool_job.h"

namespace ppdsm {

namespace {

constexpr std::size_t kQueriesAJob = 8;
constexpr std::size_t kMostEntries = 1'000'000;
constexpr std::size_t kMostLinkBytes = 4096;
/// Longer ones may be asked for by pieces; these are kept, so many of them.
constexpr std::size_t kLongListingBytes = 64 << 10;
constexpr std::size_t kMostLongListings = 64;

struct Root {
    std::string target;
    OwnedFd handle;  ///< O_PATH.
};

struct OpenDirectory {
    explicit OpenDirectory(DIR* opened) : directory(opened) {}
    ~OpenDirectory() {
        if (directory != nullptr) ::closedir(directory);
    }
    OpenDirectory(const OpenDirectory&) = delete;
    OpenDirectory& operator=(const OpenDirectory&) = delete;

    DIR* directory;
};

FileVersion version_of(const struct stat& info) {
    const FileAttributes attributes = FileAttributes::of(info);
    return {attributes.size_bytes, attributes.mtime_ns, attributes.ctime_ns};
}

tl::unexpected<Error> changed(const std::string& path) {
    return fail(Code::kNotFound, path + " changed at home before it was fetched");
}

/// The tree below the roots: system calls only, on pool threads.
class ShownTree {
public:
    static Result<std::shared_ptr<const ShownTree>> open(const ViewPlan& plan,
                                                         std::shared_ptr<ContentHashes> hashes) {
        auto tree = std::make_shared<ShownTree>();
        tree->hashes_ = std::move(hashes);
        for (const PlannedRoot& root : plan.roots) {
            PPDSM_ASSIGN(OwnedFd handle, open_file(root.source, O_PATH));
            tree->roots_.push_back({root.target, std::move(handle)});
        }
        return tree;
    }

    [[nodiscard]] Result<Bytes> list(const std::string& path) const;
    [[nodiscard]] Result<ContentAnswer> content(const std::string& path,
                                                const FileVersion& version) const;
    [[nodiscard]] Result<OwnedFd> open_version(const std::string& path,
                                               const FileVersion& version) const;

private:
    [[nodiscard]] Result<OwnedFd> open_path(const std::string& path, int flags) const;

    std::vector<Root> roots_;
    std::shared_ptr<ContentHashes> hashes_;
};

Result<OwnedFd> ShownTree::open_path(const std::string& path, int flags) const {
    const Root* innermost = nullptr;
    for (const Root& root : roots_) {
        if (!is_within(path, root.target)) continue;
        if (innermost == nullptr || root.target.size() > innermost->target.size())
            innermost = &root;
    }
    if (innermost == nullptr) return fail(Code::kNotFound, path + " is not shown");
    if (path.size() == innermost->target.size()) {
        const std::string handle = "/proc/self/fd/" + std::to_string(innermost->handle.get());
        return open_file(handle, flags & ~O_NOFOLLOW);
    }
    const std::size_t skipped = innermost->target == "/" ? 1 : innermost->target.size() + 1;
    const std::string rest = path.substr(skipped);
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
    // What is mounted below a root is not shown at home either.
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
    OwnedFd fd(static_cast<int>(
        ::syscall(SYS_openat2, innermost->handle.get(), rest.c_str(), &how, sizeof how)));
    if (fd.valid()) return fd;
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return changed(path);
    return fail_errno(path);
}

Result<Bytes> ShownTree::list(const std::string& path) const {
    Result<OwnedFd> handle = open_path(path, O_PATH | O_NOFOLLOW);
    DirectoryListing listing;
    if (!handle && handle.error().errno_value() == EXDEV) {
        listing.self.mode = S_IFDIR | 0555;
        return encode_listing(listing);
    }
    if (!handle) return fail(handle.error());
    struct stat info{};
    if (::fstat(handle->get(), &info) != 0) return fail_errno(path);
    listing.self = FileAttributes::of(info);
    if (!S_ISDIR(info.st_mode)) return encode_listing(listing);
    PPDSM_ASSIGN(OwnedFd readable, open_file_at(*handle, ".", O_RDONLY | O_DIRECTORY));
    const OpenDirectory open{::fdopendir(readable.get())};
    if (open.directory == nullptr) return fail_errno(path);
    const int directory = readable.release();
    while (const dirent* entry = ::readdir(open.directory)) {
        const std::string name = entry->d_name;
        if (name == "." || name == "..") continue;
        struct stat found{};
        if (::fstatat(directory, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) continue;
        ListedEntry listed{name, FileAttributes::of(found), {}};
        if (S_ISLNK(found.st_mode)) {
            std::array<char, kMostLinkBytes> target;
            const ssize_t got = ::readlinkat(directory, name.c_str(), target.data(), target.size());
            if (got <= 0 || got == static_cast<ssize_t>(kMostLinkBytes)) continue;
            listed.link_target.assign(target.data(), static_cast<std::size_t>(got));
        }
        listing.entries.push_back(std::move(listed));
        if (listing.entries.size() > kMostEntries) {
            return fail(Code::kOverloaded,
                        path + " has more than " + std::to_string(kMostEntries) + " entries");
        }
    }
    listing.sort();
    return encode_listing(listing);
}

Result<OwnedFd> ShownTree::open_version(const std::string& path, const FileVersion& version) const {
    // A fifo that has taken the file's place must not hold us.
    PPDSM_ASSIGN(OwnedFd file, open_path(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) return fail_errno(path);
    if (!S_ISREG(info.st_mode) || version_of(info) != version) return changed(path);
    return file;
}

Result<ContentAnswer> ShownTree::content(const std::string& path,
                                         const FileVersion& version) const {
    PPDSM_ASSIGN(const OwnedFd file, open_version(path, version));
    struct stat before{};
    if (::fstat(file.get(), &before) != 0) return fail_errno(path);
    ContentAnswer answer{{}, ContentHashes::is_settled(before)};
    if (std::optional<FileLayout> known = hashes_->find(before)) {
        answer.layout = *std::move(known);
        return answer;
    }
    Result<FileLayout> hashed = FileLayout::of(file);
    if (!hashed && hashed.error().code() == Code::kCorrupt) return changed(path);
    if (!hashed) return fail(hashed.error().within(path));
    struct stat after{};
    if (::fstat(file.get(), &after) != 0) return fail_errno(path);
    if (version_of(after) != version) return changed(path);
    answer.layout = *std::move(hashed);
    if (answer.is_settled) hashes_->put(after, answer.layout);
    return answer;
}

}  // namespace

class FileOwner::Impl : public std::enable_shared_from_this<Impl> {
public:
    Impl(Loop& loop, std::shared_ptr<const ShownTree> tree) : loop_(loop), tree_(std::move(tree)) {}

    void list(std::vector<ListQuery> queries,
              std::function<void(std::vector<Result<ListAnswer>>)> done);
    void content(const std::string& path, FileVersion version,
                 std::function<void(Result<ContentAnswer>)> done);
    void layout(FileId file, std::function<void(Result<FileLayout>)> done);
    void piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done);

private:
    /// What a content's pieces are read from.
    struct Given {
        FileLayout layout;
        std::string path;
        FileVersion version;
        std::shared_ptr<const Bytes> listing;  ///< Of a long listing; then no path.
    };
    struct Listed {
        ListAnswer answer;
        std::shared_ptr<const Bytes> long_bytes;
    };
    static Result<Listed> list_one(const ShownTree& tree, const ListQuery& query);
    void keep_long(const Listed& listed);

    /// Runs `work` on a pool thread; `done` only if the owner is still there.
    template <typename Work, typename Done>
    void run(Work work, Done done) {
        run_in_pool(loop_, std::move(work),
                    [weak = weak_from_this(), done = std::move(done)](auto result) mutable {
                        if (const auto self = weak.lock()) done(*self, std::move(result));
                    });
    }

    Loop& loop_;
    std::shared_ptr<const ShownTree> tree_;
    std::unordered_map<FileId, Given, FileIdHash> given_;
    std::list<FileId> long_listings_;
};

Result<FileOwner::Impl::Listed> FileOwner::Impl::list_one(const ShownTree& tree,
                                                          const ListQuery& query) {
    PPDSM_ASSIGN(Bytes bytes, tree.list(query.path));
    Listed listed;
    listed.answer.listing = FileLayout::of(bytes).id();
    listed.answer.unchanged = query.known == listed.answer.listing;
    if (listed.answer.unchanged) return listed;
    if (bytes.size() > kLongListingBytes) listed.long_bytes = std::make_shared<const Bytes>(bytes);
    listed.answer.bytes = std::move(bytes);
    return listed;
}

void FileOwner::Impl::keep_long(const Listed& listed) {
    if (listed.long_bytes == nullptr || given_.contains(listed.answer.listing)) return;
    if (long_listings_.size() >= kMostLongListings) {
        given_.erase(long_listings_.front());
        long_listings_.pop_front();
    }
    long_listings_.push_back(listed.answer.listing);
    given_.emplace(listed.answer.listing,
                   Given{FileLayout::of(*listed.long_bytes), {}, {}, listed.long_bytes});
}

void FileOwner::Impl::list(std::vector<ListQuery> queries,
                           std::function<void(std::vector<Result<ListAnswer>>)> done) {
    struct Gathering {
        std::vector<Result<ListAnswer>> answers;
        std::size_t jobs = 0;
        std::function<void(std::vector<Result<ListAnswer>>)> done;
    };
    const std::size_t count = std::min(queries.size(), kMostQueries);
    const std::size_t jobs = std::max<std::size_t>(1, (count + kQueriesAJob - 1) / kQueriesAJob);
    auto gathering = std::make_shared<Gathering>(Gathering{
        std::vector<Result<ListAnswer>>(queries.size(), ListAnswer{}), jobs, std::move(done)});
    for (std::size_t i = count; i < queries.size(); ++i) {
        gathering->answers[i] = fail(Code::kOverloaded, "too many directories in one question");
    }
    for (std::size_t job = 0; job < jobs; ++job) {
        const std::size_t first = job * kQueriesAJob;
        const std::size_t last = std::min(count, first + kQueriesAJob);
        std::vector<ListQuery> part(queries.begin() + static_cast<std::ptrdiff_t>(first),
                                    queries.begin() + static_cast<std::ptrdiff_t>(last));
        run(
            [tree = tree_, part = std::move(part)] {
                std::vector<Result<Listed>> listed;
                for (const ListQuery& query : part) listed.push_back(list_one(*tree, query));
                return listed;
            },
            [gathering, first](Impl& self, std::vector<Result<Listed>> listed) {
                for (std::size_t i = 0; i < listed.size(); ++i) {
                    if (listed[i]) self.keep_long(*listed[i]);
                    gathering->answers[first + i] =
                        std::move(listed[i]).map([](Listed one) { return std::move(one.answer); });
                }
                if (--gathering->jobs == 0) gathering->done(std::move(gathering->answers));
            });
    }
}

void FileOwner::Impl::content(const std::string& path, FileVersion version,
                              std::function<void(Result<ContentAnswer>)> done) {
    run([tree = tree_, path, version] { return tree->content(path, version); },
        [path, version, done = std::move(done)](Impl& self, Result<ContentAnswer> answer) {
            if (answer) {
                self.given_.insert_or_assign(answer->layout.id(),
                                             Given{answer->layout, path, version, {}});
            }
            done(std::move(answer));
        });
}

void FileOwner::Impl::layout(FileId file, std::function<void(Result<FileLayout>)> done) {
    loop_.post([weak = weak_from_this(), file, done = std::move(done)] {
        const auto self = weak.lock();
        if (self == nullptr) return;
        const auto found = self->given_.find(file);
        if (found == self->given_.end()) {
            return done(fail(Code::kNotFound, "the owner does not know content " +
                                                  file.to_string() + " (any more)"));
        }
        done(found->second.layout);
    });
}

void FileOwner::Impl::piece(FileId file, std::uint32_t index,
                            std::function<void(Result<Bytes>)> done) {
    const auto found = given_.find(file);
    Given given = found == given_.end() ? Given{} : found->second;
    run(
        [tree = tree_, given = std::move(given), file, index]() -> Result<Bytes> {
            if (index >= given.layout.pieces.size()) {
                return fail(Code::kNotFound, "the owner does not know piece " +
                                                 std::to_string(index) + " of content " +
                                                 file.to_string() + " (any more)");
            }
            Bytes bytes(given.layout.piece_bytes(index));
            const std::uint64_t offset_bytes = index * kPieceBytes;
            if (given.listing != nullptr) {
                std::copy_n(given.listing->begin() + static_cast<std::ptrdiff_t>(offset_bytes),
                            bytes.size(), bytes.begin());
                return bytes;
            }
            PPDSM_ASSIGN(const OwnedFd fd, tree->open_version(given.path, given.version));
            const Status read = read_exactly_at(fd, bytes, offset_bytes);
            if (!read && read.error().code() != Code::kCorrupt) return fail(read.error());
            if (!read || PieceId::of(bytes) != given.layout.pieces[index]) {
                return changed(given.path);
            }
            return bytes;
        },
        [done = std::move(done)](Impl&, Result<Bytes> bytes) { done(std::move(bytes)); });
}

Result<std::unique_ptr<FileOwner>> FileOwner::open(Loop& loop, const ViewPlan& plan,
                                                   std::shared_ptr<ContentHashes> hashes) {
    PPDSM_ASSIGN(auto tree, ShownTree::open(plan, std::move(hashes)));
    return std::unique_ptr<FileOwner>(new FileOwner(std::make_shared<Impl>(loop, std::move(tree))));
}

FileOwner::FileOwner(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileOwner::~FileOwner() = default;

void FileOwner::list(std::vector<ListQuery> queries,
                     std::function<void(std::vector<Result<ListAnswer>>)> done) {
    impl_->list(std::move(queries), std::move(done));
}
void FileOwner::content(std::string path, FileVersion version,
                        std::function<void(Result<ContentAnswer>)> done) {
    impl_->content(std::move(path), version, std::move(done));
}
void FileOwner::layout(FileId file, std::function<void(Result<FileLayout>)> done) {
    impl_->layout(file, std::move(done));
}
void FileOwner::piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done) {
    impl_->piece(file, index, std::move(done));
}
}  // namespace ppdsm
