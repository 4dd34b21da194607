#include "criu-glue/store/block_reader.h"

#include <fcntl.h>

#include <algorithm>

namespace ppdsm {

Result<const OwnedFd*> BlockReader::pack(std::uint32_t number, const std::filesystem::path& path) {
    if (number >= packs_.size()) packs_.resize(number + std::size_t{1});
    if (packs_[number].valid()) return &packs_[number];
    if (open_packs_ >= most_open_packs_) {
        for (OwnedFd& other : packs_) other.reset();
        open_packs_ = 0;
    }
    PPDSM_ASSIGN(packs_[number], open_file(path, O_RDONLY));
    ++open_packs_;
    return &packs_[number];
}

Result<ByteView> BlockReader::read(const ChunkPlace& place, const Load& load) {
    Slot* slot = find(place);
    if (slot == nullptr) {
        slot = &oldest();
        slot->used = 0;
        PPDSM_TRY(load(slot->raw, scratch_));
        slot->pack = place.pack;
        slot->block = place.block;
    }
    slot->used = ++clock_;
    return ByteView(slot->raw).subspan(place.offset_bytes, place.length_bytes());
}

BlockReader::Slot* BlockReader::find(const ChunkPlace& place) {
    const auto slot = std::ranges::find_if(slots_, [&](const Slot& held) {
        return held.used != 0 && held.pack == place.pack && held.block == place.block;
    });
    return slot == slots_.end() ? nullptr : &*slot;
}

BlockReader::Slot& BlockReader::oldest() {
    return *std::ranges::min_element(slots_, {}, &Slot::used);
}

void BlockReader::forget_blocks() {
    for (Slot& slot : slots_) slot.used = 0;
}

void BlockReader::forget_packs() {
    forget_blocks();
    packs_.clear();
    open_packs_ = 0;
}

}  // namespace ppdsm
