// Where each chunk is. Millions of entries are normal (262,144 a GiB), so an entry is 28 bytes in a
// dense array, found through a table of 32-bit slots: 33 to 46 bytes a chunk in all.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "criu-glue/store/chunk_id.h"

namespace ppdsm {

/// A chunk's place: a pack, a block in it, a range of that block's decompressed bytes.
struct ChunkPlace {
    static constexpr std::uint16_t kDamagedBit = 0x8000;

    std::uint32_t pack = 0;
    std::uint32_t block = 0;
    std::uint16_t offset_bytes = 0;
    std::uint16_t length_and_flag = 0;

    [[nodiscard]] std::uint16_t length_bytes() const {
        return static_cast<std::uint16_t>(length_and_flag & ~kDamagedBit);
    }
    /// Found unreadable: it does not count as stored, so that the next put() stores it anew.
    [[nodiscard]] bool damaged() const { return (length_and_flag & kDamagedBit) != 0; }
    void mark_damaged() {
        length_and_flag = static_cast<std::uint16_t>(length_and_flag | kDamagedBit);
    }
};

class ChunkIndex {
public:
    using Number = std::uint32_t;  ///< Of an entry; stable until truncate() or retain().
    static constexpr Number kNone = 0xFFFFFFFF;
    static constexpr std::size_t kMaxEntries = 0xFFFFFFF0;

    struct Entry {
        ChunkId id;
        ChunkPlace place;
    };
    static_assert(sizeof(Entry) == 28);

    void reserve(std::size_t entries);
    [[nodiscard]] Number find(const ChunkId& id) const;
    /// `id` must be absent and size() below kMaxEntries.
    Number insert(const ChunkId& id, const ChunkPlace& place);
    [[nodiscard]] std::size_t size() const { return entries_.size(); }
    [[nodiscard]] Entry& operator[](Number number) { return entries_[number]; }
    [[nodiscard]] const Entry& operator[](Number number) const { return entries_[number]; }
    [[nodiscard]] std::vector<Entry>& entries() { return entries_; }
    [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

    /// Forgets all entries from number `count` on.
    void truncate(std::size_t count);
    /// Keeps the entries of which `keep` is true, in order.
    template <typename Predicate>
    void retain(Predicate keep) {
        std::erase_if(entries_, [&](const Entry& entry) { return !keep(entry); });
        rebuild(entries_.size());
    }

private:
    void rebuild(std::size_t for_entries);
    void place_slot(Number number);

    std::vector<Entry> entries_;
    std::vector<Number>
        slots_;  ///< Open addressing, linear probing; a power of two; kNone is free.
};

}  // namespace ppdsm
