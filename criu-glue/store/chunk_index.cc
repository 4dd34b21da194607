#include "criu-glue/store/chunk_index.h"

#include <algorithm>
#include <bit>

#include "dsm/base/check.h"

namespace ppdsm {

namespace {
constexpr std::size_t kMinSlots = 64;
// Three slots in four: probes stay short, and a slot costs only four bytes.
std::size_t slots_for(std::size_t entries) {
    return std::max(kMinSlots, std::bit_ceil(entries + entries / 3 + 1));
}
}  // namespace

void ChunkIndex::reserve(std::size_t entries) {
    entries_.reserve(entries);
    if (slots_for(entries) > slots_.size()) rebuild(entries);
}

ChunkIndex::Number ChunkIndex::find(const ChunkId& id) const {
    if (slots_.empty()) return kNone;
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t slot = ChunkIdHash{}(id)&mask;; slot = (slot + 1) & mask) {
        const Number number = slots_[slot];
        if (number == kNone || entries_[number].id == id) return number;
    }
}

ChunkIndex::Number ChunkIndex::insert(const ChunkId& id, const ChunkPlace& place) {
    PPDSM_CHECK(entries_.size() < kMaxEntries);
    if (slots_for(entries_.size() + 1) > slots_.size()) rebuild(entries_.size() + 1);
    // By a quarter and not by the whole: the slack counts against the bytes a chunk may cost.
    if (entries_.size() == entries_.capacity()) {
        entries_.reserve(entries_.size() + entries_.size() / 4 + 64);
    }
    const auto number = static_cast<Number>(entries_.size());
    entries_.push_back({id, place});
    place_slot(number);
    return number;
}

void ChunkIndex::truncate(std::size_t count) {
    PPDSM_CHECK(count <= entries_.size());
    if (count == entries_.size()) return;
    entries_.resize(count);
    rebuild(count);
}

void ChunkIndex::rebuild(std::size_t for_entries) {
    slots_.assign(slots_for(for_entries), kNone);
    for (Number number = 0; number < entries_.size(); ++number) place_slot(number);
}

void ChunkIndex::place_slot(Number number) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t slot = ChunkIdHash{}(entries_[number].id) & mask;
    while (slots_[slot] != kNone) slot = (slot + 1) & mask;
    slots_[slot] = number;
}

}  // namespace ppdsm
