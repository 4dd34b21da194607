// Blocks as a whole, for stores that copy from one another, and looking at what another process
// writes.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <tuple>

#include "criu-glue/store/chunk_store_impl.h"
#include "criu-glue/store/stored_block.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {
// A smaller one costs more in the pack's index and in later reads than compressing its chunks
// together with others.
constexpr std::uint32_t kLeastKeptBlockBytes = std::uint32_t{16} << 10;
}  // namespace

std::vector<ChunkStore::BlockShare> ChunkStore::group_by_block(
    std::span<const ChunkId> ids, std::vector<ChunkId>& missing) const {
    std::vector<ChunkIndex::Number> found;
    found.reserve(ids.size());
    for (const ChunkId& id : ids) {
        const ChunkIndex::Number known = impl_->index.find(id);
        if (known == ChunkIndex::kNone || impl_->index[known].place.damaged() ||
            impl_->index[known].place.pack == PackWriter::kPendingPack) {
            missing.push_back(id);
        } else {
            found.push_back(known);
        }
    }
    const auto order = [&](ChunkIndex::Number number) {
        const ChunkPlace& place = impl_->index[number].place;
        return std::tuple(place.pack, place.block, place.offset_bytes);
    };
    std::ranges::sort(found, {}, order);
    found.erase(std::ranges::unique(found).begin(), found.end());
    std::vector<BlockShare> shares;
    const ChunkPlace* before = nullptr;
    for (const ChunkIndex::Number number : found) {
        const ChunkIndex::Entry& entry = impl_->index[number];
        if (before == nullptr || before->pack != entry.place.pack ||
            before->block != entry.place.block) {
            const pack::Block& block = impl_->packs[entry.place.pack].blocks[entry.place.block];
            shares.push_back({{}, false, 0, block.stored_bytes});
        }
        before = &entry.place;
        BlockShare& share = shares.back();
        share.ids.push_back(entry.id);
        share.raw_bytes += entry.place.length_bytes();
        // Chunks of a block do not overlap and fill it.
        share.whole =
            share.raw_bytes == impl_->packs[entry.place.pack].blocks[entry.place.block].raw_bytes;
    }
    return shares;
}

Result<StoredBlock> ChunkStore::stored_block(const BlockShare& share) {
    if (!share.whole || share.ids.empty()) {
        return fail(Code::kInvalid, "a part of a block does not lie in its pack by itself");
    }
    StoredBlock stored;
    const ChunkPlace* place = nullptr;
    for (const ChunkId& id : share.ids) {
        const ChunkIndex::Number known = impl_->index.find(id);
        if (known == ChunkIndex::kNone) return fail(impl_->not_found(id));
        place = &impl_->index[known].place;
        stored.lengths_bytes.push_back(place->length_bytes());
    }
    const Impl::Pack& pack = impl_->packs[place->pack];
    const pack::Block& block = pack.blocks[place->block];
    stored.method = block.method;
    stored.raw_bytes = block.raw_bytes;
    PPDSM_ASSIGN(const OwnedFd* const fd, impl_->reader.pack(place->pack, pack.path));
    if (Status read = pack::read_stored(*fd, block, stored.stored); !read) {
        impl_->mark_block_damaged(*place);
        return fail(read.error().within(pack.path.string()));
    }
    return stored;
}

Status ChunkStore::put_block(const StoredBlockView& block, std::span<const ChunkId> ids,
                             ByteView raw) {
    std::vector<ChunkId> sorted(ids.begin(), ids.end());
    std::ranges::sort(sorted);
    const bool fresh = std::ranges::adjacent_find(sorted) == sorted.end() &&
                       std::ranges::none_of(ids, [&](const ChunkId& id) {
                           return impl_->index.find(id) != ChunkIndex::kNone;
                       });
    if (!fresh || block.raw_bytes < kLeastKeptBlockBytes) {
        std::size_t at = 0;
        for (std::size_t i = 0; i < ids.size(); ++i) {
            PPDSM_TRY(put(ids[i], raw.subspan(at, block.lengths_bytes[i])));
            at += block.lengths_bytes[i];
        }
        return {};
    }
    PPDSM_TRY(impl_->check_writable("store chunks in"));
    if (impl_->index.size() + ids.size() > ChunkIndex::kMaxEntries) {
        return fail(Code::kOverloaded,
                    impl_->directory.string() + ": too many chunks in one store");
    }
    std::vector<ChunkIndex::Number> entries;
    entries.reserve(ids.size());
    for (const ChunkId& id : ids) entries.push_back(impl_->index.insert(id, {}));
    pack::PackedBlock packed{{block.stored.begin(), block.stored.end()},
                             pack::block_checksum(block.stored),
                             block.method};
    Status appended =
        impl_->pending().append_block(entries, block.lengths_bytes, raw, std::move(packed));
    // The entries must not stay without a place; they are the last ones.
    if (!appended) impl_->index.truncate(entries.front());
    return appended;
}

Status ChunkStore::refresh() {
    if (impl_->mode == Mode::kWrite) {
        return fail(Code::kInvalid,
                    "refresh " + impl_->directory.string() + ": the store is open for writing");
    }
    PPDSM_ASSIGN(const std::vector<std::uint64_t> sequences, impl_->list_packs());
    std::vector<bool> gone(impl_->packs.size(), true);
    std::vector<Impl::LoadedPack> added;
    impl_->damaged.clear();
    std::size_t known = 0;  // Both lists ascend: packs are numbered in the order of their names.
    for (const std::uint64_t sequence : sequences) {
        const fs::path path = impl_->pack_path(sequence);
        while (known < impl_->packs.size() && impl_->packs[known].path < path) ++known;
        if (known < impl_->packs.size() && impl_->packs[known].path == path &&
            impl_->is_unchanged(impl_->packs[known])) {
            gone[known] = false;
            continue;
        }
        Result<Impl::LoadedPack> loaded = Impl::load_pack(path);
        if (loaded) {
            added.push_back(std::move(*loaded));
        } else if (loaded.error().code() != Code::kNotFound) {  // Removed since it was listed.
            impl_->damaged.push_back({path, loaded.error().message(), {}});
        }
    }
    // New before old: a chunk that was moved is found in its new place, never nowhere.
    for (Impl::LoadedPack& pack : added) {
        const auto number = static_cast<std::uint32_t>(impl_->packs.size());
        impl_->packs.push_back(std::move(pack.pack));
        gone.push_back(false);
        impl_->add_pack_entries(number, pack.contents, true);
    }
    if (std::ranges::find(gone, true) != gone.end()) impl_->forget_packs(gone);
    impl_->flushed_entries = impl_->index.size();
    return {};
}

bool ChunkStore::Impl::is_unchanged(const Pack& pack) {
    struct stat status{};
    return ::stat(pack.path.c_str(), &status) == 0 && status.st_ino == pack.inode &&
           static_cast<std::uint64_t>(status.st_size) == pack.size_bytes &&
           modified_ns(status) == pack.modified_ns;
}

std::int64_t ChunkStore::Impl::modified_ns(const struct stat& status) {
    return std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace ppdsm
