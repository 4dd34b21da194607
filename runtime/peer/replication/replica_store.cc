#include "runtime/peer/replication/replica_store.h"

#include <unistd.h>

#include <charconv>
#include <chrono>
#include <optional>
#include <string>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "criu-glue/manifest/manifest.h"
#include "dsm/base/check.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/replication/chunk_pull.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

class StoreLookup : public ChunkLookup {
public:
    explicit StoreLookup(ChunkStore& store) : store_(store) {}
    [[nodiscard]] std::size_t length_bytes(const ChunkId& id) const override {
        return store_.length_bytes(id);
    }
    Result<ByteView> view(const ChunkId& id) override { return store_.view(id); }

private:
    ChunkStore& store_;
};

/// Nothing for files that are no manifests.
std::optional<std::uint64_t> generation_of(const fs::path& path) {
    const std::string name = path.filename();
    std::uint64_t generation = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), generation);
    if (parsed.ec != std::errc() || std::to_string(generation) != name) return std::nullopt;
    return generation;
}

Result<std::map<std::uint64_t, fs::path>> list_manifests(const fs::path& directory) {
    std::map<std::uint64_t, fs::path> found;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error)) {
        if (const auto generation = generation_of(entry->path())) {
            found.emplace(*generation, entry->path());
        }
    }
    if (error) return fail(Error::from_errno("list " + directory.string(), error.value()));
    return found;
}

/// What is under way.
struct Pull {
    GenerationOffer offer;
    Bytes manifest;
    std::uint64_t bytes_total = 0;
    std::unique_ptr<ChunkPull> walk;
    PullReport report;
    std::uint64_t unflushed_bytes = 0;
};

}  // namespace

struct ReplicaStore::Impl {
    Status find_held();
    [[nodiscard]] Result<Manifest> load(std::uint64_t generation) const;
    [[nodiscard]] bool is_complete(const Manifest& manifest, const Manifest* base);
    [[nodiscard]] std::optional<Manifest> choose_base(const GenerationOffer& offer) const;
    Status forget(const std::vector<std::uint64_t>& generations);
    Status mark_held(ChunkSet& live, std::vector<std::uint64_t>& damaged);
    Status keep_block(const StoredBlockView& block, std::unordered_set<ChunkId, ChunkIdHash>& open,
                      Status& answer);

    VcPaths paths;
    OwnedFd lock;
    std::unique_ptr<ChunkStore> store;
    std::unique_ptr<StoreLookup> lookup;
    std::map<std::uint64_t, HeldGeneration> held;
    std::optional<Pull> pull;
    bool garbage = false;
    std::uint64_t flush_every_bytes = std::uint64_t{64} << 20;
};

ReplicaStore::ReplicaStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ReplicaStore::~ReplicaStore() = default;

Result<std::unique_ptr<ReplicaStore>> ReplicaStore::open(const VcPaths& paths) {
    PPDSM_TRY(make_directories(paths.directory, 0700));
    PPDSM_TRY(make_directories(paths.manifests(), 0700));
    PPDSM_TRY(sync_directory(paths.directory.parent_path()));
    auto impl = std::make_unique<Impl>();
    impl->paths = paths;
    PPDSM_ASSIGN(impl->lock, lock_vc(paths));
    PPDSM_TRY(remove_stale_pending(paths.manifests()));
    PPDSM_ASSIGN(impl->store, ChunkStore::open(paths.chunks(), ChunkStore::Mode::kWrite));
    PPDSM_TRY(sync_directory(paths.directory));
    impl->lookup = std::make_unique<StoreLookup>(*impl->store);
    PPDSM_TRY(impl->find_held());
    return std::unique_ptr<ReplicaStore>(new ReplicaStore(std::move(impl)));
}

/// A manifest's file alone is not believed: an executor that ran here removes such files without
/// waiting for the disk, and a power cut may bring one back whose chunks are gone.
Status ReplicaStore::Impl::find_held() {
    PPDSM_ASSIGN(const auto manifests, list_manifests(paths.manifests()));
    std::optional<Manifest> base;
    for (const auto& [generation, path] : manifests) {
        const Result<Bytes> bytes = read_file(path, kMaxManifestBytes);
        Result<Manifest> manifest =
            bytes ? decode_manifest(*bytes) : Result<Manifest>(fail(bytes.error()));
        if (!manifest || manifest->generation != generation || manifest->vc_id != paths.id() ||
            !is_complete(*manifest, base ? &*base : nullptr)) {
            garbage = true;
            continue;
        }
        held[generation] = {manifest->epoch, ChunkId::of(*bytes), manifest->bytes_total,
                            bytes->size()};
        base = std::move(*manifest);
    }
    return {};
}

bool ReplicaStore::Impl::is_complete(const Manifest& manifest, const Manifest* base) {
    ChunkPull walk(*lookup, manifest, base);
    const auto lacking = walk.next_request(1);
    return lacking && lacking->empty() && walk.done();
}

const std::map<std::uint64_t, HeldGeneration>& ReplicaStore::held() const { return impl_->held; }

bool ReplicaStore::holds(std::uint64_t generation, const ChunkId& manifest_name) const {
    const auto found = impl_->held.find(generation);
    return found != impl_->held.end() && found->second.manifest_name == manifest_name;
}

ReplicaStore::Usage ReplicaStore::usage() const {
    Usage usage{impl_->store->chunk_count(), impl_->store->stored_bytes()};
    for (const auto& [generation, held] : impl_->held) usage.stored_bytes += held.manifest_bytes;
    return usage;
}

Result<Manifest> ReplicaStore::Impl::load(std::uint64_t generation) const {
    const fs::path path = paths.manifest(generation);
    PPDSM_ASSIGN(const Bytes bytes, read_file(path, kMaxManifestBytes));
    if (ChunkId::of(bytes) != held.at(generation).manifest_name) {
        return fail(Code::kCorrupt, path.string() + " is not the manifest that was held");
    }
    return decode_manifest(bytes);
}

/// The generation it was made from, or the newest; none is no error.
std::optional<Manifest> ReplicaStore::Impl::choose_base(const GenerationOffer& offer) const {
    if (held.empty()) return std::nullopt;
    const std::uint64_t generation = held.contains(offer.base) ? offer.base : held.rbegin()->first;
    Result<Manifest> base = load(generation);
    if (!base) return std::nullopt;
    return std::move(*base);
}

Result<bool> ReplicaStore::begin(const GenerationOffer& offer, ByteView manifest) {
    PPDSM_CHECK(!impl_->pull);
    const std::string what = offer.vc + ", generation " + std::to_string(offer.generation);
    if (holds(offer.generation, offer.manifest_name)) return true;
    if (ChunkId::of(manifest) != offer.manifest_name) {
        return fail(Code::kCorrupt, what + ": the manifest is not the one that was offered");
    }
    PPDSM_ASSIGN(const Manifest decoded, decode_manifest(manifest));
    if (offer.vc != impl_->paths.id() || decoded.vc_id != offer.vc ||
        decoded.generation != offer.generation || decoded.epoch != offer.epoch) {
        return fail(Code::kInvalid, what + ": the manifest is of " + decoded.vc_id +
                                        ", generation " + std::to_string(decoded.generation));
    }
    const auto same = impl_->held.find(offer.generation);
    if (same != impl_->held.end() && same->second.epoch > offer.epoch) {
        return fail(Code::kStaleEpoch, what + ": epoch " + std::to_string(same->second.epoch) +
                                           " is held, epoch " + std::to_string(offer.epoch) +
                                           " is offered");
    }
    const std::optional<Manifest> base = impl_->choose_base(offer);
    Pull& pull = impl_->pull.emplace();
    pull.offer = offer;
    pull.offer.manifest.clear();
    pull.manifest.assign(manifest.begin(), manifest.end());
    pull.bytes_total = decoded.bytes_total;
    pull.walk = std::make_unique<ChunkPull>(*impl_->lookup, decoded, base ? &*base : nullptr);
    return false;
}

bool ReplicaStore::pulling() const { return impl_->pull.has_value(); }

Result<std::vector<ChunkId>> ReplicaStore::next_request(std::size_t most) {
    PPDSM_CHECK(impl_->pull);
    return impl_->pull->walk->next_request(most);
}

Result<ReplicaStore::Accepted> ReplicaStore::accept(const std::vector<ChunkId>& asked,
                                                    const ChunkBatch& batch) {
    PPDSM_CHECK(impl_->pull);
    Pull& pull = *impl_->pull;
    ++pull.report.requests;
    pull.report.received_bytes += batch.payload.size();
    Accepted accepted;
    std::unordered_set<ChunkId, ChunkIdHash> open(asked.begin(), asked.end());
    const Result<BatchContent> content = read_batch(batch);
    if (!content) {
        accepted.answer = fail(content.error());
    } else {
        for (const StoredBlockView& block : content->blocks) {
            PPDSM_TRY(impl_->keep_block(block, open, accepted.answer));
            if (!accepted.answer) break;
        }
        for (const ChunkId& id : content->missing) {
            if (accepted.answer && open.erase(id) > 0) accepted.lacking.push_back(id);
        }
        if (accepted.answer && open.size() == asked.size()) {
            accepted.answer = fail(Code::kCorrupt, "ChunkBatch: answers nothing that was asked");
        }
    }
    if (!accepted.answer) ++pull.report.wasted_batches;
    accepted.came = asked.size() - open.size() - accepted.lacking.size();
    for (const ChunkId& id : asked) {
        if (open.contains(id)) pull.walk->ask_again(id);
    }
    if (pull.unflushed_bytes >= impl_->flush_every_bytes) {
        PPDSM_TRY(impl_->store->flush());
        pull.unflushed_bytes = 0;
    }
    return accepted;
}

Status ReplicaStore::Impl::keep_block(const StoredBlockView& block,
                                      std::unordered_set<ChunkId, ChunkIdHash>& open,
                                      Status& answer) {
    Bytes raw;
    const Result<std::vector<ChunkId>> ids = unpack_block(block, raw);
    if (!ids) {
        answer = fail(ids.error().within("ChunkBatch"));
        return {};
    }
    for (const ChunkId& id : *ids) {
        if (open.contains(id)) continue;
        answer = fail(Code::kCorrupt,
                      "ChunkBatch: bytes named " + id.to_string() + " were not asked for");
        return {};
    }
    PPDSM_TRY(store->put_block(block, *ids, raw));
    pull->unflushed_bytes += block.stored.size();
    for (std::size_t i = 0; i < ids->size(); ++i) {
        open.erase((*ids)[i]);
        ++pull->report.chunks;
        pull->report.raw_bytes += block.lengths_bytes[i];
        if (Status right = pull->walk->arrived((*ids)[i], block.lengths_bytes[i]); !right) {
            answer = right;
            return {};
        }
    }
    fault_point("replica-block");
    return {};
}

void ReplicaStore::ask_again(const std::vector<ChunkId>& asked) {
    PPDSM_CHECK(impl_->pull);
    for (const ChunkId& id : asked) impl_->pull->walk->ask_again(id);
}

void ReplicaStore::flush_every(std::uint64_t stored_bytes) {
    impl_->flush_every_bytes = stored_bytes;
}

bool ReplicaStore::complete() const { return impl_->pull && impl_->pull->walk->done(); }

Result<PullReport> ReplicaStore::finish() {
    PPDSM_CHECK(complete());
    Pull& pull = *impl_->pull;
    const auto before = std::chrono::steady_clock::now();
    PPDSM_TRY(impl_->store->flush());
    fault_point("replica-flushed");
    const std::uint64_t generation = pull.offer.generation;
    PPDSM_TRY(replace_file(impl_->paths.manifest(generation), pull.manifest, 0600));
    fault_point("replica-held");
    // Of the same number, from an earlier epoch: now nothing names its chunks.
    if (impl_->held.contains(generation)) impl_->garbage = true;
    impl_->held[generation] = {pull.offer.epoch, pull.offer.manifest_name, pull.bytes_total,
                               pull.manifest.size()};
    PullReport report = pull.report;
    report.durable_us =
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                       std::chrono::steady_clock::now() - before)
                                       .count());
    impl_->pull.reset();
    return report;
}

void ReplicaStore::break_off(const Error& why) {
    if (!impl_->pull) return;
    impl_->pull.reset();
    impl_->garbage = true;
    if (why.code() == Code::kOverloaded) {
        impl_->store->abandon();
        // The packs that were flushed on the way fill the disk too. A failure leaves them for the
        // next time.
        (void)collect_garbage();
    } else if (!impl_->store->flush()) {
        impl_->store->abandon();
    }
}

Status ReplicaStore::Impl::forget(const std::vector<std::uint64_t>& generations) {
    for (const std::uint64_t generation : generations) {
        const fs::path path = paths.manifest(generation);
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
            return fail_errno("remove " + path.string());
        }
        held.erase(generation);
        garbage = true;
    }
    // Before any of its chunks goes.
    return sync_directory(paths.manifests());
}

Status ReplicaStore::drop(const std::vector<std::uint64_t>& generations) {
    std::vector<std::uint64_t> known;
    for (const std::uint64_t generation : generations) {
        if (impl_->held.contains(generation)) known.push_back(generation);
    }
    if (!known.empty()) PPDSM_TRY(impl_->forget(known));
    return impl_->garbage ? collect_garbage() : Status{};
}

Status ReplicaStore::Impl::mark_held(ChunkSet& live, std::vector<std::uint64_t>& damaged) {
    for (const auto& [generation, what] : held) {
        const Result<Manifest> manifest = load(generation);
        Status marked = manifest ? Status{} : Status(fail(manifest.error()));
        if (manifest) {
            for_each_blob(*manifest, [&](const BlobRef& blob) {
                if (marked) marked = mark_blob(*store, blob, live);
            });
        }
        if (marked) continue;
        const Code code = marked.error().code();
        if (code != Code::kCorrupt && code != Code::kNotFound) return marked;
        damaged.push_back(generation);
    }
    return {};
}

Status ReplicaStore::collect_garbage() {
    if (impl_->pull) return {};
    const Result<OwnedFd> claim = claim_generations(impl_->paths);
    if (!claim) {
        return claim.error().code() == Code::kUnavailable ? Status{} : fail(claim.error());
    }
    ChunkSet live;
    std::vector<std::uint64_t> gone;
    PPDSM_TRY(impl_->mark_held(live, gone));
    PPDSM_ASSIGN(const auto manifests, list_manifests(impl_->paths.manifests()));
    for (const auto& [generation, path] : manifests) {
        if (!impl_->held.contains(generation)) gone.push_back(generation);
    }
    if (!gone.empty()) PPDSM_TRY(impl_->forget(gone));
    fault_point("replica-forgotten");
    PPDSM_TRY(impl_->store->collect_garbage(live));
    impl_->garbage = false;
    return {};
}

bool ReplicaStore::has_garbage() const { return impl_->garbage; }

}  // namespace ppdsm
