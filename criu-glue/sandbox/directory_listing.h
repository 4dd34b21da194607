// What a directory shows: the bytes that travel from its owner to a file server, and that name the
// listing by their hash. Little endian:
//   "PPDLIST1", u32 entries, u32 0, attributes of the directory itself, then each entry:
//   attributes, u16 bytes of name, u16 bytes of link target, name, link target
//   attributes: u32 mode, uid, gid, links; u64 size, blocks of 512, device; i64 mtime, ctime in ns
// Entries are sorted by name, without "." and "..". A file that is a root by itself has a listing
// too, of no entries.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dsm/base/files.h"
#include "dsm/base/result.h"

struct stat;  // NOLINT(readability-identifier-naming): the system's.

namespace ppdsm {

struct FileAttributes {
    std::uint32_t mode = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t links = 0;
    std::uint64_t size_bytes = 0;
    std::uint64_t blocks = 0;
    std::uint64_t device = 0;  ///< Of a device node, as stat(2) shows it.
    std::int64_t mtime_ns = 0;
    std::int64_t ctime_ns = 0;

    [[nodiscard]] static FileAttributes of(const struct stat& info);
    /// Without inode and device; the time of last access, which nobody keeps, is that of change.
    void fill(struct stat& info) const;
    bool operator==(const FileAttributes&) const = default;
};

struct ListedEntry {
    std::string name;
    FileAttributes attributes;
    std::string link_target;  ///< Of a symbolic link only.
    bool operator==(const ListedEntry&) const = default;
};

struct DirectoryListing {
    FileAttributes self;
    std::vector<ListedEntry> entries;

    /// Sorts the entries, as the other functions need it.
    void sort();
    [[nodiscard]] const ListedEntry* find(std::string_view name) const;
    bool operator==(const DirectoryListing&) const = default;
};

Bytes encode_listing(const DirectoryListing& listing);
/// kCorrupt for anything that encode_listing() does not give.
Result<DirectoryListing> decode_listing(ByteView bytes);

}  // namespace ppdsm
