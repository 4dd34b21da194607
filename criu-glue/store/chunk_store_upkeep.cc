// Garbage collection and verification: what touches whole packs.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "criu-glue/store/chunk_store_impl.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {
// Each generation adds a pack, and a few chunks that live long would keep each of them. Above this
// many the smaller half is merged into one: each byte is then rewritten rarely, as in a
// log-structured merge tree.
constexpr std::size_t kManyPacks = 64;
}  // namespace

Status ChunkStore::collect_garbage(const ChunkSet& live) {
    PPDSM_TRY(impl_->check_writable("collect garbage in"));
    if (impl_->writer) {
        return fail(Code::kInvalid, "collect garbage in " + impl_->directory.string() +
                                        ": chunks are pending; flush() or abandon() them first");
    }
    Impl::Plan plan = impl_->plan_garbage(live);
    std::vector<fs::path> rewrite;
    for (std::size_t i = 0; i < impl_->packs.size(); ++i) {
        if (plan.rewrite[i]) rewrite.push_back(impl_->packs[i].path);
    }
    // Dead packs go first: on a full disk that makes the room the rewriting needs.
    PPDSM_TRY(impl_->remove_packs(plan.dead));
    if (rewrite.empty()) return {};
    std::vector<fs::path> done;
    for (std::uint32_t i = 0; i < impl_->packs.size(); ++i) {
        if (std::ranges::find(rewrite, impl_->packs[i].path) == rewrite.end()) continue;
        const Result<bool> moved = impl_->rewrite_pack(i, live);
        if (!moved) {
            impl_->abandon_pending();
            return fail(moved.error());
        }
        if (*moved) done.push_back(impl_->packs[i].path);
    }
    if (const Status flushed = impl_->flush_pending(false); !flushed) {
        impl_->abandon_pending();
        return flushed;
    }
    std::vector<bool> remove;
    for (const Impl::Pack& pack : impl_->packs) {
        remove.push_back(std::ranges::find(done, pack.path) != done.end());
    }
    return impl_->remove_packs(remove);
}

ChunkStore::Impl::Plan ChunkStore::Impl::plan_garbage(const ChunkSet& live) const {
    std::vector<std::uint64_t> live_bytes(packs.size());
    for (const ChunkIndex::Entry& entry : index.entries()) {
        if (live.contains(entry.id)) live_bytes[entry.place.pack] += entry.place.length_bytes();
    }
    Plan plan{std::vector<bool>(packs.size()), std::vector<bool>(packs.size())};
    std::vector<std::size_t> kept;
    for (std::size_t i = 0; i < packs.size(); ++i) {
        std::uint64_t raw_bytes = 0;
        for (const pack::Block& block : packs[i].blocks) raw_bytes += block.raw_bytes;
        plan.dead[i] = live_bytes[i] == 0;
        plan.rewrite[i] = !plan.dead[i] && live_bytes[i] < raw_bytes - live_bytes[i];
        if (!plan.dead[i] && !plan.rewrite[i]) kept.push_back(i);
    }
    if (kept.size() > kManyPacks) {
        std::ranges::stable_sort(kept, {}, [&](std::size_t i) { return packs[i].size_bytes; });
        for (std::size_t i = 0; i < kept.size() / 2; ++i) plan.rewrite[kept[i]] = true;
    }
    return plan;
}

Result<bool> ChunkStore::Impl::rewrite_pack(std::uint32_t pack, const ChunkSet& live) {
    std::vector<ChunkIndex::Number> entries;
    for (ChunkIndex::Number i = 0; i < index.size(); ++i) {
        if (index[i].place.pack == pack && live.contains(index[i].id)) entries.push_back(i);
    }
    std::ranges::sort(entries, {}, [&](ChunkIndex::Number i) {
        return std::pair(index[i].place.block, index[i].place.offset_bytes);
    });
    bool whole = true;
    for (const ChunkIndex::Number entry : entries) {
        const ChunkId id = index[entry].id;
        const Result<ByteView> content = view(id);
        if (!content) {
            // Kept as it is: verify() names it, and other generations may not need the chunk.
            whole = false;
            continue;
        }
        PPDSM_TRY(move_entry(entry, *content));
    }
    return whole;
}

Status ChunkStore::Impl::remove_packs(const std::vector<bool>& remove) {
    std::vector<bool> removed(packs.size());
    Status result;
    for (std::size_t i = 0; i < packs.size(); ++i) {
        if (!remove[i]) continue;
        // One that is gone already is as good as removed.
        if (::unlink(packs[i].path.c_str()) != 0 && errno != ENOENT) {
            if (result) result = fail_errno("remove " + packs[i].path.string());
            continue;
        }
        removed[i] = true;
    }
    if (std::ranges::find(removed, true) == removed.end()) return result;
    forget_packs(removed);
    const Status synced = sync_directory(directory);
    return result ? synced : result;
}

void ChunkStore::Impl::forget_packs(const std::vector<bool>& gone) {
    index.retain([&](const ChunkIndex::Entry& entry) { return !gone[entry.place.pack]; });
    flushed_entries = index.size();
    std::vector<std::uint32_t> renumbered(packs.size());
    std::vector<Pack> kept;
    for (std::size_t i = 0; i < packs.size(); ++i) {
        renumbered[i] = static_cast<std::uint32_t>(kept.size());
        if (!gone[i]) kept.push_back(std::move(packs[i]));
    }
    for (ChunkIndex::Entry& entry : index.entries()) {
        entry.place.pack = renumbered[entry.place.pack];
    }
    packs = std::move(kept);
    reader.forget_packs();
}

Result<std::vector<ChunkStore::Damage>> ChunkStore::verify(
    const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
    std::uint64_t total_bytes = 0;
    std::uint64_t done_bytes = 0;
    for (const Impl::Pack& pack : impl_->packs) total_bytes += pack.size_bytes;
    const auto advance = [&](std::uint64_t bytes) {
        done_bytes += bytes;
        if (progress) progress(done_bytes, total_bytes);
    };
    std::vector<Damage> found = impl_->damaged;
    for (std::uint32_t i = 0; i < impl_->packs.size(); ++i) {
        const std::uint64_t before_bytes = done_bytes;
        const std::size_t known = found.size();
        impl_->verify_pack(i, found, advance);
        advance(impl_->packs[i].size_bytes - (done_bytes - before_bytes));
        for (std::size_t j = known; j < found.size(); ++j) {
            for (const ChunkId& id : found[j].chunks) {
                const ChunkIndex::Number entry = impl_->index.find(id);
                if (entry == ChunkIndex::kNone || impl_->index[entry].place.pack != i) continue;
                impl_->index[entry].place.mark_damaged();
            }
        }
    }
    // What was read before the damage was found must not be served after it.
    impl_->reader.forget_blocks();
    return found;
}

void ChunkStore::Impl::verify_pack(std::uint32_t pack, std::vector<Damage>& found,
                                   const std::function<void(std::uint64_t)>& advance) {
    const fs::path& path = packs[pack].path;
    // Opened anew: a descriptor of ours would still read a pack that was removed or replaced.
    const Result<OwnedFd> fd = open_file(path, O_RDONLY);
    const Result<pack::Index> contents =
        fd ? pack::load(*fd) : Result<pack::Index>(fail(fd.error()));
    if (!contents) {
        found.push_back({path, contents.error().message(), chunks_of(pack)});
        return;
    }
    Bytes raw;
    Bytes scratch;
    std::size_t chunk = 0;
    for (const pack::Block& block : contents->blocks) {
        const std::size_t first = chunk;
        chunk += block.chunk_count;
        advance(block.stored_bytes);
        const auto name_at = [&](std::size_t i) {
            return contents->names.begin() + static_cast<std::ptrdiff_t>(i);
        };
        if (const Status read = pack::read_block(*fd, block, raw, scratch); !read) {
            found.push_back({path,
                             read.error().message() + "; " + std::to_string(block.chunk_count) +
                                 " chunks are lost",
                             {name_at(first), name_at(chunk)}});
            continue;
        }
        Damage damage{path, {}, {}};
        std::size_t offset_bytes = 0;
        for (std::size_t i = first; i < chunk; ++i) {
            const std::uint16_t length_bytes = contents->lengths_bytes[i];
            if (ChunkId::of(ByteView(raw).subspan(offset_bytes, length_bytes)) !=
                contents->names[i]) {
                damage.chunks.push_back(contents->names[i]);
            }
            offset_bytes += length_bytes;
        }
        if (damage.chunks.empty()) continue;
        damage.what = "block at " + std::to_string(block.offset_bytes) + ": " +
                      std::to_string(damage.chunks.size()) + " chunks differ from their names";
        found.push_back(std::move(damage));
    }
}

std::vector<ChunkId> ChunkStore::Impl::chunks_of(std::uint32_t pack) const {
    std::vector<ChunkId> ids;
    for (const ChunkIndex::Entry& entry : index.entries()) {
        if (entry.place.pack == pack) ids.push_back(entry.id);
    }
    return ids;
}

}  // namespace ppdsm
