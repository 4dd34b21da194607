#include "runtime/peer/program_files/file_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <system_error>
#include <unordered_map>

#include "dsm/base/wall_clock.h"
#include "runtime/peer/program_files/path_index.h"
#include "runtime/peer/program_files/pool_job.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

/// The time of last use is kept as the file's mtime, not more often than this.
constexpr std::int64_t kUseGrainMs = 60'000;
constexpr std::uint64_t kMostHabitBytes = std::uint64_t{4} << 20;

tl::unexpected<Error> not_here(FileId file) {
    return fail(Code::kNotFound, "content " + file.to_string() + " is not in the cache");
}

}  // namespace

struct FileCache::Impl : std::enable_shared_from_this<FileCache::Impl> {
    struct Kept {
        std::uint64_t size_bytes = 0;
        std::int64_t used_ms = 0;     ///< Unix time.
        std::int64_t touched_ms = 0;  ///< What the file's mtime says.
    };

    Impl(Loop& loop_in, Options options_in) : loop(loop_in), options(std::move(options_in)) {}

    Status load();
    void load_directory(const fs::path& directory);
    [[nodiscard]] fs::path path(FileId file) const {
        const std::string name = file.to_string();
        return options.directory / "content" / name.substr(0, 2) / name;
    }
    [[nodiscard]] fs::path habit_path(const std::string& kind) const {
        return options.directory / "habits" / ChunkId::of(as_bytes(kind)).to_string();
    }
    /// Drops what has not been used for longest, until so much fits besides.
    [[nodiscard]] bool make_room(std::uint64_t size_bytes);
    void drop(FileId file);
    void remove_from_disk(std::vector<fs::path> paths);
    void add_pin(FileId file) { ++pins[file]; }
    void remove_pin(FileId file) {
        const auto found = pins.find(file);
        if (found != pins.end() && --found->second == 0) pins.erase(found);
    }
    void open_content(FileId file, std::function<void(Result<OwnedFd>)> done);
    void keep_next();

    Loop& loop;
    Options options;
    OwnedFd lock;
    std::unordered_map<FileId, Kept, FileIdHash> kept;
    std::unordered_map<FileId, std::uint32_t, FileIdHash> pins;
    std::uint64_t used_bytes = 0;  ///< What comes in included.
    std::uint64_t last_incoming = 0;
    std::unique_ptr<PathIndex> index;
    /// Complete, and waiting for the batch that makes them durable.
    struct Keeping {
        std::shared_ptr<Incoming::Impl> incoming;
        std::function<void(Status)> done;
    };
    std::vector<Keeping> to_keep;
    bool is_keeping = false;
};

Status FileCache::Impl::load() {
    const fs::path incoming = options.directory / "incoming";
    PPDSM_TRY(make_directories(options.directory, 0700));
    PPDSM_ASSIGN(lock, open_file(options.directory / "lock", O_RDWR | O_CREAT, 0600));
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        return fail(Code::kUnavailable, options.directory.string() + " is another process's");
    }
    PPDSM_TRY(remove_tree(incoming));
    PPDSM_TRY(make_directories(incoming, 0700));
    PPDSM_TRY(make_directories(options.directory / "habits", 0700));
    for (int i = 0; i < 256; ++i) {
        const fs::path directory = options.directory / "content" / fmt::format("{:02x}", i);
        PPDSM_TRY(make_directories(directory, 0700));
        load_directory(directory);
    }
    PPDSM_ASSIGN(index, PathIndex::open(loop, options.directory / "index"));
    return {};
}

void FileCache::Impl::load_directory(const fs::path& directory) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
        const Result<FileId> file = FileId::parse(entry.path().filename().string());
        struct stat info{};
        if (!file || ::lstat(entry.path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
        const std::int64_t used_ms = std::int64_t{info.st_mtim.tv_sec} * 1000;
        kept.emplace(*file, Kept{static_cast<std::uint64_t>(info.st_size), used_ms, used_ms});
        used_bytes += static_cast<std::uint64_t>(info.st_size);
    }
}

bool FileCache::Impl::make_room(std::uint64_t size_bytes) {
    if (size_bytes > options.limit_bytes) return false;
    const std::uint64_t allowed_bytes = options.limit_bytes - size_bytes;
    if (used_bytes <= allowed_bytes) return true;
    std::vector<std::pair<std::int64_t, FileId>> by_use;
    for (const auto& [file, known] : kept) {
        if (!pins.contains(file)) by_use.emplace_back(known.used_ms, file);
    }
    std::sort(by_use.begin(), by_use.end());
    // A little more than needed, so that the next does not have to sort again.
    const std::uint64_t wanted_bytes =
        allowed_bytes - std::min(allowed_bytes, options.limit_bytes / 16);
    std::vector<fs::path> removed;
    for (const auto& [used_ms, file] : by_use) {
        if (used_bytes <= wanted_bytes) break;
        used_bytes -= kept.at(file).size_bytes;
        kept.erase(file);
        removed.push_back(path(file));
    }
    remove_from_disk(std::move(removed));
    return used_bytes <= allowed_bytes;
}

void FileCache::Impl::drop(FileId file) {
    const auto found = kept.find(file);
    if (found == kept.end()) return;
    used_bytes -= found->second.size_bytes;
    kept.erase(found);
    remove_from_disk({path(file)});
}

void FileCache::Impl::remove_from_disk(std::vector<fs::path> paths) {
    if (paths.empty()) return;
    // By another name at once: the same content may come in again before the job runs.
    for (fs::path& removed : paths) {
        const fs::path aside =
            options.directory / "incoming" / fmt::format("dropped-{}", ++last_incoming);
        if (::rename(removed.c_str(), aside.c_str()) == 0) removed = aside;
    }
    loop.offload(
        [paths = std::move(paths)] {
            for (const fs::path& removed : paths) ::unlink(removed.c_str());
        },
        [] {});
}

void FileCache::Impl::open_content(FileId file, std::function<void(Result<OwnedFd>)> done) {
    const auto found = kept.find(file);
    const std::int64_t now_ms = unix_now_ms();
    bool must_touch = false;
    std::uint64_t size_bytes = 0;
    if (found != kept.end()) {
        Kept& known = found->second;
        known.used_ms = now_ms;
        size_bytes = known.size_bytes;
        must_touch = now_ms - known.touched_ms > kUseGrainMs;
        if (must_touch) known.touched_ms = now_ms;
    }
    const bool is_known = found != kept.end();
    run_in_pool(
        loop,
        [path = path(file), file, size_bytes, must_touch, is_known]() -> Result<OwnedFd> {
            if (!is_known) return not_here(file);
            PPDSM_ASSIGN(OwnedFd fd, open_file(path, O_RDONLY | O_NOFOLLOW));
            struct stat info{};
            if (::fstat(fd.get(), &info) != 0) return fail_errno(path.string());
            if (static_cast<std::uint64_t>(info.st_size) != size_bytes) {
                return fail(Code::kCorrupt, path.string() + " is damaged");
            }
            if (must_touch) {
                const timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
                (void)::futimens(fd.get(), times);
            }
            return fd;
        },
        [weak = weak_from_this(), file, is_known, done = std::move(done)](Result<OwnedFd> fd) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            if (fd || !is_known) return done(std::move(fd));
            // Removed or damaged behind our back: it is fetched again.
            self->drop(file);
            done(not_here(file));
        });
}

// ---- What comes in.

struct FileCache::Incoming::Impl : std::enable_shared_from_this<FileCache::Incoming::Impl> {
    std::shared_ptr<FileCache::Impl> cache;
    FileLayout layout;
    FileId file;
    fs::path path;
    OwnedFd fd;
    bool is_kept = false;

    ~Impl() {
        if (is_kept) return;
        cache->used_bytes -= layout.size_bytes;
        if (!path.empty()) ::unlink(path.c_str());
    }
    [[nodiscard]] Status write_piece(std::uint32_t index, const Bytes& piece) const;
    void become_kept();
};

Status FileCache::Incoming::Impl::write_piece(std::uint32_t index, const Bytes& piece) const {
    if (index >= layout.pieces.size() || piece.size() != layout.piece_bytes(index) ||
        PieceId::of(piece) != layout.pieces[index]) {
        return fail(Code::kCorrupt, fmt::format("piece {} of content {} is not what its name says",
                                                index, file.to_string()));
    }
    return write_all_at(fd, piece, index * kPieceBytes);
}

void FileCache::Incoming::Impl::become_kept() {
    is_kept = true;
    const std::int64_t now_ms = unix_now_ms();
    const auto [known, is_new] =
        cache->kept.emplace(file, FileCache::Impl::Kept{layout.size_bytes, now_ms, now_ms});
    if (!is_new) cache->used_bytes -= layout.size_bytes;  // Counted by the one before.
}

FileCache::Incoming::Incoming(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileCache::Incoming::~Incoming() = default;

void FileCache::Incoming::put(std::uint32_t index, Bytes piece, std::function<void(Status)> done) {
    run_in_pool(
        impl_->cache->loop,
        [impl = impl_, index, piece = std::move(piece)] { return impl->write_piece(index, piece); },
        [done = std::move(done)](Status written) { done(std::move(written)); });
}

void FileCache::Incoming::finish(std::function<void(Result<OwnedFd>)> readable,
                                 std::function<void(Status)> kept) {
    Loop& loop = impl_->cache->loop;
    run_in_pool(
        loop,
        [impl = impl_]() -> Result<OwnedFd> {
            if (::fchmod(impl->fd.get(), 0444) != 0) return fail_errno("keep a content");
            return open_file(impl->path, O_RDONLY);
        },
        [impl = impl_, readable = std::move(readable), kept = std::move(kept),
         &loop](Result<OwnedFd> opened) mutable {
            if (!opened) {
                readable(fail(opened.error()));
                return kept(fail(opened.error()));
            }
            readable(std::move(opened));
            impl->cache->to_keep.push_back({impl, std::move(kept)});
            impl->cache->keep_next();
        });
}

/// All that has become complete while the batch before was synced goes with the next: two syncs of
/// the file system for any number of files.
void FileCache::Impl::keep_next() {
    if (is_keeping || to_keep.empty()) return;
    is_keeping = true;
    auto batch = std::make_shared<std::vector<Keeping>>(std::exchange(to_keep, {}));
    std::vector<std::pair<fs::path, fs::path>> names;
    for (const Keeping& one : *batch)
        names.emplace_back(one.incoming->path, path(one.incoming->file));
    run_in_pool(
        loop,
        [batch, names = std::move(names)]() -> Status {
            const int any = batch->front().incoming->fd.get();
            if ((batch->size() == 1 ? ::fsync(any) : ::syncfs(any)) != 0) return fail_errno("sync");
            for (const auto& [from, to] : names) {
                if (::rename(from.c_str(), to.c_str()) != 0)
                    return fail_errno("keep " + to.string());
            }
            if (batch->size() == 1) return sync_directory(names.front().second.parent_path());
            return ::syncfs(any) == 0 ? Status() : fail_errno("sync");
        },
        [weak = weak_from_this(), batch](const Status& done) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            self->is_keeping = false;
            for (const Keeping& one : *batch) {
                if (done) one.incoming->become_kept();
                one.done(done);
            }
            self->keep_next();
        });
}

Result<std::unique_ptr<FileCache::Incoming>> FileCache::begin(FileLayout layout) {
    if (!layout.is_sound()) return fail(Code::kCorrupt, "a content's size and pieces differ");
    if (!impl_->make_room(layout.size_bytes)) {
        return fail(Code::kOverloaded,
                    fmt::format("no room for {} bytes in {}, which may have {}", layout.size_bytes,
                                impl_->options.directory.string(), impl_->options.limit_bytes));
    }
    auto incoming = std::make_shared<Incoming::Impl>();
    incoming->cache = impl_;
    incoming->file = layout.id();
    incoming->layout = std::move(layout);
    impl_->used_bytes += incoming->layout.size_bytes;
    const fs::path path =
        impl_->options.directory / "incoming" / std::to_string(++impl_->last_incoming);
    PPDSM_ASSIGN(incoming->fd, open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600));
    incoming->path = path;
    return std::unique_ptr<Incoming>(new Incoming(std::move(incoming)));
}

// ---- Pins.

struct FileCache::Pin::Impl {
    std::weak_ptr<FileCache::Impl> cache;
    std::set<FileId> files;
};

FileCache::Pin::Pin() : impl_(std::make_unique<Impl>()) {}

FileCache::Pin::~Pin() {
    const auto cache = impl_->cache.lock();
    if (cache == nullptr) return;
    for (const FileId file : impl_->files) cache->remove_pin(file);
}

void FileCache::Pin::add(FileId file) {
    const auto cache = impl_->cache.lock();
    if (impl_->files.insert(file).second && cache != nullptr) cache->add_pin(file);
}

std::unique_ptr<FileCache::Pin> FileCache::pin() {
    std::unique_ptr<Pin> pin(new Pin);
    pin->impl_->cache = impl_;
    return pin;
}

// ---- The rest.

Result<std::unique_ptr<FileCache>> FileCache::open(Loop& loop, Options options) {
    auto impl = std::make_shared<Impl>(loop, std::move(options));
    PPDSM_TRY(impl->load());
    return std::unique_ptr<FileCache>(new FileCache(std::move(impl)));
}

FileCache::FileCache(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileCache::~FileCache() = default;

bool FileCache::holds(FileId file) const { return impl_->kept.contains(file); }
std::uint64_t FileCache::used_bytes() const { return impl_->used_bytes; }

void FileCache::open_content(FileId file, std::function<void(Result<OwnedFd>)> done) {
    impl_->open_content(file, std::move(done));
}

void FileCache::layout(FileId file, std::function<void(Result<FileLayout>)> done) {
    impl_->open_content(file, [impl = impl_, file, done = std::move(done)](Result<OwnedFd> fd) {
        if (!fd) return done(fail(fd.error()));
        run_in_pool(
            impl->loop, [fd = *std::move(fd)] { return FileLayout::of(fd); },
            [impl, file, done](Result<FileLayout> layout) {
                if (layout && layout->id() == file) return done(std::move(layout));
                impl->drop(file);
                done(fail(Code::kCorrupt, "content " + file.to_string() + " was damaged"));
            });
    });
}

void FileCache::piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done) {
    const auto known = impl_->kept.find(file);
    const std::uint64_t size_bytes = known == impl_->kept.end() ? 0 : known->second.size_bytes;
    impl_->open_content(
        file, [impl = impl_, size_bytes, index, done = std::move(done)](Result<OwnedFd> fd) {
            if (!fd) return done(fail(fd.error()));
            if (index * kPieceBytes >= size_bytes) {
                return done(fail(Code::kInvalid, "there is no such piece"));
            }
            run_in_pool(
                impl->loop,
                [fd = *std::move(fd), size_bytes, index]() -> Result<Bytes> {
                    const std::uint64_t offset_bytes = index * kPieceBytes;
                    Bytes bytes(std::min(kPieceBytes, size_bytes - offset_bytes));
                    PPDSM_TRY(read_exactly_at(fd, bytes, offset_bytes));
                    return bytes;
                },
                done);
        });
}

void FileCache::load_habit(const std::string& kind, std::function<void(FileHabit)> done) {
    run_in_pool(
        impl_->loop,
        [path = impl_->habit_path(kind)] {
            return FileHabit::decode(read_text(path, kMostHabitBytes).value_or(std::string()));
        },
        std::move(done));
}

void FileCache::keep_habit(const std::string& kind, const FileHabit& habit) {
    const fs::path written =
        impl_->options.directory / "incoming" / fmt::format("habit-{}", ++impl_->last_incoming);
    run_in_pool(
        impl_->loop,
        [text = habit.encode(), written, path = impl_->habit_path(kind)]() -> Status {
            PPDSM_ASSIGN(const OwnedFd file, open_file(written, O_WRONLY | O_CREAT | O_EXCL, 0600));
            PPDSM_TRY(write_all(file, as_bytes(text)));
            return ::rename(written.c_str(), path.c_str()) == 0 ? Status() : fail_errno("rename");
        },
        [](const Status&) {});  // The next program of its kind asks for itself.
}

std::optional<FileId> FileCache::known_listing(const std::string& owner,
                                               const std::string& path) const {
    return impl_->index->listing(owner, path);
}
void FileCache::remember_listing(const std::string& owner, const std::string& path,
                                 FileId listing) {
    impl_->index->put_listing(owner, path, listing);
}
std::optional<FileId> FileCache::known_content(const std::string& owner, const std::string& path,
                                               const FileVersion& version) const {
    return impl_->index->content(owner, path, version);
}
void FileCache::remember_content(const std::string& owner, const std::string& path,
                                 const FileVersion& version, FileId content) {
    impl_->index->put_content(owner, path, version, content);
}

}  // namespace ppdsm
