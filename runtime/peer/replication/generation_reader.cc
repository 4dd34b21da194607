#include "runtime/peer/replication/generation_reader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "criu-glue/manifest/manifest.h"
#include "criu-glue/store/stored_block.h"

namespace ppdsm {

namespace {
/// Less room than this in a batch is left empty: it holds the lengths of 4096 short chunks, and a
/// block of one page compresses badly.
constexpr std::size_t kLeastGatherBytes = std::size_t{12} << 10;
}  // namespace

Status GenerationReader::refresh() {
    if (store_) return store_->refresh();
    PPDSM_ASSIGN(store_, ChunkStore::open(paths_.chunks(), ChunkStore::Mode::kRead));
    return {};
}

Result<GenerationOffer> GenerationReader::begin(std::uint64_t generation) {
    // Pinned before anything is looked at: what is seen from here on stays.
    OwnedFd pin;
    if (!pin_.valid()) {
        PPDSM_ASSIGN(pin, pin_generations(paths_));
    }
    PPDSM_ASSIGN(const Bytes bytes, read_file(paths_.manifest(generation), kMaxManifestBytes));
    PPDSM_ASSIGN(const Manifest manifest, decode_manifest(bytes));
    PPDSM_TRY(refresh());
    GenerationOffer offer;
    offer.vc = paths_.id();
    offer.epoch = manifest.epoch;
    offer.generation = generation;
    offer.base = manifest.predecessor;
    offer.manifest_name = ChunkId::of(bytes);
    offer.manifest_bytes = bytes.size();
    if (bytes.size() <= kMaxOfferedManifestBytes) offer.manifest = bytes;
    if (pin.valid()) pin_ = std::move(pin);
    Begun& begun = begun_[generation];
    ++begun.times;
    begun.manifest_name = offer.manifest_name;
    return offer;
}

void GenerationReader::end(std::uint64_t generation) {
    const auto begun = begun_.find(generation);
    if (begun == begun_.end() || --begun->second.times > 0) return;
    begun_.erase(begun);
    if (begun_.empty()) pin_.reset();
}

void GenerationReader::close_when_idle() {
    if (!serving()) store_.reset();
}

Status GenerationReader::check_begun(const std::string& vc, std::uint64_t generation) const {
    if (vc == paths_.id() && begun_.contains(generation)) return {};
    return fail(Code::kNotFound, vc + ", generation " + std::to_string(generation) +
                                     ": is not being given out here");
}

ChunkBatch GenerationReader::read(const ChunkRequest& request) {
    if (const Status begun = check_begun(request.vc, request.generation); !begun) {
        return refuse_request(begun.error());
    }
    std::vector<ChunkId> missing;
    const auto shares = store_->group_by_block(request.names, missing);
    BatchWriter batch;
    bool full = false;
    std::vector<ChunkId> parts;
    for (const ChunkStore::BlockShare& share : shares) {
        if (!share.whole || gather_always_) {
            parts.insert(parts.end(), share.ids.begin(), share.ids.end());
        } else if (!full) {
            full = !add_whole(share, batch, missing);
        }
    }
    if (!full) add_gathered(parts, batch, missing);
    for (const ChunkId& id : missing) {
        if (!batch.add_missing(id)) break;
    }
    return batch.finish();
}

bool GenerationReader::add_whole(const ChunkStore::BlockShare& share, BatchWriter& batch,
                                 std::vector<ChunkId>& missing) {
    // Looked at before it is read.
    if (share.stored_bytes + std::size_t{4} * share.ids.size() > batch.room_bytes()) return false;
    Result<StoredBlock> block = store_->stored_block(share);
    if (!block) {
        missing.insert(missing.end(), share.ids.begin(), share.ids.end());
        return true;
    }
    if (!batch.add(std::move(*block))) return false;
    ++counters_.whole_blocks;
    return true;
}

void GenerationReader::add_gathered(const std::vector<ChunkId>& ids, BatchWriter& batch,
                                    std::vector<ChunkId>& missing) {
    // Pages and short chunks apart, as in packs: marking what is live reads the short ones only.
    struct Open {
        Bytes raw;
        std::vector<std::uint16_t> lengths_bytes;
    };
    std::array<Open, 2> streams;
    const auto most_bytes = [&] {
        // Of one stream, so that what both hold fits even where it does not compress.
        const std::size_t held = streams[0].raw.size() + streams[1].raw.size();
        const std::size_t room = batch.room_bytes();
        return room < held + kLeastGatherBytes ? 0 : room - held - kLeastGatherBytes;
    };
    const auto seal = [&](Open& open) {
        if (open.raw.empty()) return;
        if (batch.add(compress_chunks(open.raw, std::exchange(open.lengths_bytes, {})))) {
            ++counters_.gathered_blocks;
        }
        open.raw.clear();
    };
    for (const ChunkId& id : ids) {
        const Result<ByteView> content = store_->view(id);
        if (!content) {
            missing.push_back(id);
            continue;
        }
        Open& open = streams[content->size() == ChunkStore::kMaxChunkBytes ? 0 : 1];
        if (open.raw.size() + content->size() > pack::kMaxBlockBytes) seal(open);
        if (content->size() > most_bytes()) break;
        open.raw.insert(open.raw.end(), content->begin(), content->end());
        open.lengths_bytes.push_back(static_cast<std::uint16_t>(content->size()));
    }
    for (Open& open : streams) seal(open);
}

ManifestPiece GenerationReader::read_manifest(const ManifestRequest& request) {
    if (const Status begun = check_begun(request.vc, request.generation); !begun) {
        return refuse_manifest(begun.error());
    }
    if (begun_.at(request.generation).manifest_name != request.manifest_name) {
        return refuse_manifest({Code::kNotFound, request.vc + ", generation " +
                                                     std::to_string(request.generation) +
                                                     ": another one of this number is here"});
    }
    const Result<OwnedFd> file = open_file(paths_.manifest(request.generation), O_RDONLY);
    if (!file) return refuse_manifest(file.error());
    struct stat status{};
    if (::fstat(file->get(), &status) != 0) {
        return refuse_manifest(Error::from_errno("stat a manifest"));
    }
    const auto size_bytes = static_cast<std::uint64_t>(status.st_size);
    const std::uint64_t from_bytes = std::min(request.offset_bytes, size_bytes);
    Bytes piece(std::min<std::uint64_t>(kManifestPieceBytes, size_bytes - from_bytes));
    if (const Status read = read_exactly_at(*file, piece, from_bytes); !read) {
        return refuse_manifest(read.error());
    }
    return make_manifest_piece(from_bytes, piece);
}

}  // namespace ppdsm
