#include "criu-glue/sandbox/directory_listing.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <type_traits>

namespace ppdsm {

namespace {

constexpr std::string_view kMagic = "PPDLIST1";
constexpr std::size_t kAttributeBytes = 56;
constexpr std::size_t kLeastEntryBytes = kAttributeBytes + 4 + 1;
constexpr std::size_t kMostNameBytes = 255;
constexpr std::size_t kMostTargetBytes = 4095;
constexpr std::int64_t kNanoseconds = 1'000'000'000;

std::int64_t in_ns(const timespec& time) { return time.tv_sec * kNanoseconds + time.tv_nsec; }

timespec from_ns(std::int64_t ns) {
    timespec time{ns / kNanoseconds, ns % kNanoseconds};
    if (time.tv_nsec < 0) {
        time.tv_nsec += kNanoseconds;
        --time.tv_sec;
    }
    return time;
}

class Writer {
public:
    explicit Writer(std::size_t expected_bytes) { bytes_.reserve(expected_bytes); }

    template <typename Number>
    void number(Number value) {
        const auto bits = static_cast<std::make_unsigned_t<Number>>(value);
        std::array<std::uint8_t, sizeof bits> little{};
        for (std::size_t i = 0; i < sizeof bits; ++i) {
            little[i] = static_cast<std::uint8_t>(bits >> (8 * i));
        }
        bytes_.insert(bytes_.end(), little.begin(), little.end());
    }
    void text(std::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
    void attributes(const FileAttributes& a) {
        for (const std::uint32_t value : {a.mode, a.uid, a.gid, a.links}) number(value);
        for (const std::uint64_t value : {a.size_bytes, a.blocks, a.device}) number(value);
        for (const std::int64_t value : {a.mtime_ns, a.ctime_ns}) number(value);
    }
    Bytes take() { return std::move(bytes_); }

private:
    Bytes bytes_;
};

/// Reads past the end give zeros, and are told by is_whole().
class Reader {
public:
    explicit Reader(ByteView bytes) : rest_(bytes) {}

    template <typename Number>
    Number number() {
        std::make_unsigned_t<Number> bits = 0;
        const ByteView part = take(sizeof bits);
        for (std::size_t i = 0; i < part.size(); ++i) {
            bits =
                static_cast<decltype(bits)>(bits | static_cast<decltype(bits)>(part[i]) << (8 * i));
        }
        return static_cast<Number>(bits);
    }
    std::string text(std::size_t size_bytes) { return std::string(as_text(take(size_bytes))); }
    FileAttributes attributes() {
        FileAttributes a;
        for (std::uint32_t* value : {&a.mode, &a.uid, &a.gid, &a.links}) {
            *value = number<std::uint32_t>();
        }
        for (std::uint64_t* value : {&a.size_bytes, &a.blocks, &a.device}) {
            *value = number<std::uint64_t>();
        }
        for (std::int64_t* value : {&a.mtime_ns, &a.ctime_ns}) *value = number<std::int64_t>();
        return a;
    }
    [[nodiscard]] std::size_t rest_bytes() const { return rest_.size(); }
    [[nodiscard]] bool is_whole() const { return whole_; }

private:
    ByteView take(std::size_t size_bytes) {
        if (size_bytes > rest_.size()) {
            whole_ = false;
            rest_ = {};
            return {};
        }
        const ByteView part = rest_.first(size_bytes);
        rest_ = rest_.subspan(size_bytes);
        return part;
    }

    ByteView rest_;
    bool whole_ = true;
};

bool is_known_type(std::uint32_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFLNK:
        case S_IFIFO:
        case S_IFSOCK:
        case S_IFCHR:
        case S_IFBLK: return true;
        default: return false;
    }
}

bool is_sound(const ListedEntry& entry) {
    const std::string& name = entry.name;
    if (name.empty() || name.size() > kMostNameBytes || name == "." || name == "..") return false;
    if (name.find('/') != std::string::npos || name.find('\0') != std::string::npos) return false;
    if (!is_known_type(entry.attributes.mode)) return false;
    const bool is_link = S_ISLNK(entry.attributes.mode);
    return is_link != entry.link_target.empty() && entry.link_target.size() <= kMostTargetBytes &&
           entry.link_target.find('\0') == std::string::npos;
}

}  // namespace

FileAttributes FileAttributes::of(const struct stat& info) {
    FileAttributes a;
    a.mode = info.st_mode;
    a.uid = info.st_uid;
    a.gid = info.st_gid;
    a.links = static_cast<std::uint32_t>(info.st_nlink);
    a.size_bytes = static_cast<std::uint64_t>(info.st_size);
    a.blocks = static_cast<std::uint64_t>(info.st_blocks);
    const bool is_device = S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode);
    a.device = is_device ? info.st_rdev : 0;
    a.mtime_ns = in_ns(info.st_mtim);
    a.ctime_ns = in_ns(info.st_ctim);
    return a;
}

void FileAttributes::fill(struct stat& info) const {
    info.st_mode = mode;
    info.st_uid = uid;
    info.st_gid = gid;
    info.st_nlink = links;
    info.st_size = static_cast<off_t>(size_bytes);
    info.st_blocks = static_cast<blkcnt_t>(blocks);
    info.st_blksize = 4096;
    info.st_rdev = device;
    info.st_mtim = from_ns(mtime_ns);
    info.st_ctim = info.st_atim = from_ns(ctime_ns);
}

void DirectoryListing::sort() {
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
}

const ListedEntry* DirectoryListing::find(std::string_view name) const {
    const auto found = std::lower_bound(
        entries.begin(), entries.end(), name,
        [](const ListedEntry& entry, std::string_view wanted) { return entry.name < wanted; });
    return found != entries.end() && found->name == name ? &*found : nullptr;
}

Bytes encode_listing(const DirectoryListing& listing) {
    constexpr std::size_t kUsualEntryBytes = 96;
    Writer out((listing.entries.size() + 1) * kUsualEntryBytes);
    out.text(kMagic);
    out.number(static_cast<std::uint32_t>(listing.entries.size()));
    out.number(std::uint32_t{0});
    out.attributes(listing.self);
    for (const ListedEntry& entry : listing.entries) {
        out.attributes(entry.attributes);
        out.number(static_cast<std::uint16_t>(entry.name.size()));
        out.number(static_cast<std::uint16_t>(entry.link_target.size()));
        out.text(entry.name);
        out.text(entry.link_target);
    }
    return out.take();
}

Result<DirectoryListing> decode_listing(ByteView bytes) {
    const auto corrupt = [] { return fail(Code::kCorrupt, "a directory's listing is damaged"); };
    Reader in(bytes);
    if (in.text(kMagic.size()) != kMagic) return corrupt();
    const auto count = in.number<std::uint32_t>();
    if (in.number<std::uint32_t>() != 0) return corrupt();
    DirectoryListing listing;
    listing.self = in.attributes();
    if (!in.is_whole() || count > in.rest_bytes() / kLeastEntryBytes) return corrupt();
    if (!is_known_type(listing.self.mode)) return corrupt();
    listing.entries.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        ListedEntry entry;
        entry.attributes = in.attributes();
        const auto name_bytes = in.number<std::uint16_t>();
        const auto target_bytes = in.number<std::uint16_t>();
        entry.name = in.text(name_bytes);
        entry.link_target = in.text(target_bytes);
        if (!in.is_whole() || !is_sound(entry)) return corrupt();
        if (i > 0 && listing.entries.back().name >= entry.name) return corrupt();
        listing.entries.push_back(std::move(entry));
    }
    if (in.rest_bytes() != 0) return corrupt();
    return listing;
}

}  // namespace ppdsm
