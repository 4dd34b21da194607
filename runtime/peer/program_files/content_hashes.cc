#include "runtime/peer/program_files/content_hashes.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <cstring>

#include "dsm/base/wall_clock.h"

namespace ppdsm {

namespace {

constexpr std::string_view kMagic = "PPDHASH1";
/// Above these the file is begun anew: it only saves reading.
constexpr std::size_t kMostFiles = 200'000;
constexpr std::uint64_t kMostBytes = std::uint64_t{64} << 20;
/// Clocks of file systems move in ticks of up to 10 ms; some (FAT, NFS) in seconds.
constexpr std::int64_t kGrainNs = 2'000'000'000;
constexpr std::int64_t kNanoseconds = 1'000'000'000;

std::int64_t in_ns(const timespec& time) { return time.tv_sec * kNanoseconds + time.tv_nsec; }

/// Before the pieces' ids; a checksum of both follows. Native byte order: the file never travels.
struct RecordHead {
    std::uint64_t device, inode, size_bytes;
    std::int64_t mtime_ns, ctime_ns;
    std::uint64_t pieces;
};

std::uint64_t checksum(ByteView record) { return XXH3_64bits(record.data(), record.size()); }

}  // namespace

std::size_t ContentHashes::KeyHash::operator()(const Key& key) const noexcept {
    return XXH3_64bits(&key, sizeof key);
}

ContentHashes::Key ContentHashes::key_of(const struct stat& info) {
    return {info.st_dev, info.st_ino, static_cast<std::uint64_t>(info.st_size), in_ns(info.st_mtim),
            in_ns(info.st_ctim)};
}

bool ContentHashes::is_settled(const struct stat& info) {
    return in_ns(info.st_ctim) < unix_now_ns() - kGrainNs &&
           in_ns(info.st_mtim) < unix_now_ns() - kGrainNs;
}

Result<std::shared_ptr<ContentHashes>> ContentHashes::open(const std::filesystem::path& file) {
    PPDSM_ASSIGN(OwnedFd fd, open_file(file, O_RDWR | O_CREAT | O_APPEND, 0600));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        return fail(Code::kUnavailable, file.string() + " is another process's");
    }
    std::shared_ptr<ContentHashes> hashes(new ContentHashes(file, std::move(fd)));
    if (hashes->load()) return hashes;
    // Damaged, of another version, or too long: it only saves reading.
    hashes->layouts_.clear();
    if (::ftruncate(hashes->file_.get(), 0) != 0) return fail_errno("empty " + file.string());
    PPDSM_TRY(write_all(hashes->file_, as_bytes(kMagic)));
    return hashes;
}

Status ContentHashes::load() {
    PPDSM_ASSIGN(const Bytes bytes, read_file(path_, kMostBytes));
    ByteView rest = bytes;
    const auto corrupt = [&] { return fail(Code::kCorrupt, path_.string() + " is damaged"); };
    if (rest.size() < kMagic.size() || as_text(rest.first(kMagic.size())) != kMagic) {
        return corrupt();
    }
    rest = rest.subspan(kMagic.size());
    while (!rest.empty()) {
        RecordHead head{};
        if (rest.size() < sizeof head) return corrupt();
        std::memcpy(&head, rest.data(), sizeof head);
        FileLayout layout{head.size_bytes, {}};
        const std::size_t room = (rest.size() - sizeof head) / sizeof(PieceId::bytes);
        if (head.pieces > room) return corrupt();
        const std::size_t ids_bytes = head.pieces * sizeof(PieceId::bytes);
        std::uint64_t sum = 0;
        if (rest.size() < sizeof head + ids_bytes + sizeof sum) return corrupt();
        std::memcpy(&sum, rest.data() + sizeof head + ids_bytes, sizeof sum);
        if (sum != checksum(rest.first(sizeof head + ids_bytes))) return corrupt();
        layout.pieces.resize(head.pieces);
        for (std::size_t i = 0; i < head.pieces; ++i) {
            PieceId& piece = layout.pieces[i];
            std::memcpy(piece.bytes.data(), rest.data() + sizeof head + i * sizeof piece.bytes,
                        sizeof piece.bytes);
        }
        if (!layout.is_sound() || layouts_.size() >= kMostFiles) return corrupt();
        layouts_.insert_or_assign(
            Key{head.device, head.inode, head.size_bytes, head.mtime_ns, head.ctime_ns},
            std::move(layout));
        rest = rest.subspan(sizeof head + ids_bytes + sizeof sum);
    }
    return {};
}

std::optional<FileLayout> ContentHashes::find(const struct stat& info) const {
    const std::lock_guard guard(mutex_);
    const auto found = layouts_.find(key_of(info));
    if (found == layouts_.end()) return {};
    return found->second;
}

void ContentHashes::put(const struct stat& info, const FileLayout& layout) {
    const std::lock_guard guard(mutex_);
    const Key key = key_of(info);
    if (layouts_.size() >= kMostFiles || !layouts_.emplace(key, layout).second) return;
    // A record that is not kept costs reading the file again.
    (void)append(key, layout);
}

Status ContentHashes::append(const Key& key, const FileLayout& layout) {
    const RecordHead head{key.device,   key.inode,    key.size_bytes,
                          key.mtime_ns, key.ctime_ns, layout.pieces.size()};
    Bytes record(sizeof head);
    std::memcpy(record.data(), &head, sizeof head);
    for (const PieceId& piece : layout.pieces) {
        record.insert(record.end(), piece.bytes.begin(), piece.bytes.end());
    }
    const std::uint64_t sum = checksum(record);
    record.resize(record.size() + sizeof sum);
    std::memcpy(record.data() + record.size() - sizeof sum, &sum, sizeof sum);
    return write_all(file_, record);
}

}  // namespace ppdsm
