#include "runtime/peer/checkpointer.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "criu-glue/criu/criu_service.h"
#include "criu-glue/images/dump_statistics.h"
#include "dsm/base/wall_clock.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/host_record.h"

namespace ppdsm {

namespace {

Result<std::vector<std::string>> image_names(const OwnedFd& directory) {
    std::vector<std::string> names;
    DIR* listing = ::fdopendir(::openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (listing == nullptr) return fail_errno("list the images");
    while (const dirent* entry = ::readdir(listing)) {
        if (std::string_view(entry->d_name).ends_with(".img") ||
            std::string_view(entry->d_name).starts_with("stats-")) {
            names.emplace_back(entry->d_name);
        }
    }
    ::closedir(listing);
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace

Result<std::unique_ptr<Checkpointer>> Checkpointer::open(const VcPaths& paths, CommitLog& log,
                                                         OutputLog& output, HostRecord host) {
    PPDSM_ASSIGN(std::unique_ptr<ChunkStore> store,
                 ChunkStore::open(paths.chunks(), ChunkStore::Mode::kWrite));
    PPDSM_TRY(remove_stale_pending(paths.manifests()));
    return std::unique_ptr<Checkpointer>(
        new Checkpointer(paths, log, output, std::move(host), std::move(store)));
}

void Checkpointer::attach(const FileView& view) {
    captures_.clear();
    mounts_ = view.mounts;
    for (const WritablePlace& place : view.places) {
        captures_.emplace_back(place.name, place.upper, place.staging);
    }
}

Status Checkpointer::precopy() {
    for (LayerCapture& capture : captures_) PPDSM_TRY(capture.precopy(*store_));
    return {};
}

Status Checkpointer::cut(const std::vector<FileIdentity>& mapped_writable) {
    for (LayerCapture& capture : captures_) PPDSM_TRY(capture.cut(mapped_writable));
    return {};
}

void Checkpointer::abandon() {
    for (LayerCapture& capture : captures_) capture.abandon();
    store_->abandon();
}

Status Checkpointer::store_images(const OwnedFd& images, Manifest& manifest) {
    PPDSM_ASSIGN(const std::vector<std::string> names, image_names(images));
    for (const std::string& name : names) {
        PPDSM_ASSIGN(const OwnedFd file, open_file_at(images, name, O_RDONLY));
        PPDSM_ASSIGN(const BlobRef content, store_file(*store_, file));
        if (name == "stats-dump") {
            PPDSM_ASSIGN(const Bytes bytes, load_blob(*store_, content, 1 << 20));
            PPDSM_ASSIGN(const DumpStatistics statistics, read_dump_statistics(bytes));
            manifest.pause_us = static_cast<std::uint32_t>(statistics.frozen_us);
        }
        manifest.images.push_back({name, content});
        ::unlinkat(images.get(), name.c_str(), 0);  // The memory is wanted back.
    }
    return {};
}

Result<GenerationRecord> Checkpointer::prepare(const OwnedFd& images, const CutRecord& cut) {
    const std::uint64_t before_bytes = store_->bytes_written();
    fault_point("store");
    Manifest manifest;
    PPDSM_TRY(store_images(images, manifest));
    return finish(std::move(manifest), cut, before_bytes);
}

Result<GenerationRecord> Checkpointer::prepare_files(const CutRecord& cut) {
    const std::uint64_t before_bytes = store_->bytes_written();
    PPDSM_TRY(precopy());
    PPDSM_TRY(this->cut({}));
    return finish({}, cut, before_bytes);
}

Result<GenerationRecord> Checkpointer::finish(Manifest manifest, const CutRecord& cut,
                                              std::uint64_t before_bytes) {
    for (LayerCapture& capture : captures_) {
        PPDSM_ASSIGN(Layer layer, capture.finish(*store_));
        manifest.layers.push_back(std::move(layer));
    }
    for (const SandboxMount& mount : mounts_)
        manifest.mounts.push_back({mount.key(), mount.target});
    manifest.vc_id = paths_.id();
    manifest.epoch = log_.state().epoch;
    const GenerationRecord* last = log_.state().last();
    manifest.predecessor = last == nullptr ? 0 : last->generation;
    manifest.generation = manifest.predecessor + 1;
    manifest.created_unix_ms = unix_now_ms();
    manifest.cut_us = cut.cut_us;
    manifest.input_offset_bytes = cut.input_bytes;
    manifest.output_offset_bytes = cut.output_bytes;
    manifest.terminal = cut.terminal;
    manifest.stdio = cut.stdio_keys;
    manifest.host = host_;
    for_each_blob(manifest, [&](const BlobRef& blob) { manifest.bytes_total += blob.size_bytes; });
    PPDSM_TRY(store_->flush());
    fault_point("flushed");
    manifest.bytes_new = store_->bytes_written() - before_bytes;
    PPDSM_ASSIGN(const Bytes encoded, encode_manifest(manifest));
    PPDSM_TRY(replace_file(paths_.manifest(manifest.generation), encoded, 0600));
    PPDSM_TRY(output_.sync());
    fault_point("before-commit");
    GenerationRecord record;
    record.generation = manifest.generation;
    record.epoch = manifest.epoch;
    record.predecessor = manifest.predecessor;
    record.manifest = ChunkId::of(encoded);
    record.output_bytes = cut.output_bytes;
    record.input_bytes = cut.input_bytes;
    record.input_signals = cut.input_signals;
    record.calls = cut.calls;
    record.pause_us = manifest.pause_us;
    record.cut_us = cut.cut_us;
    record.bytes_new = manifest.bytes_new + encoded.size();
    record.bytes_total = manifest.bytes_total;
    record.unix_ms = manifest.created_unix_ms;
    return record;
}

Status Checkpointer::commit(const GenerationRecord& record) {
    PPDSM_TRY(log_.commit(record));
    fault_point("committed");
    return {};
}

Status Checkpointer::retire(std::uint32_t keep) {
    const std::vector<GenerationRecord>& all = log_.state().generations;
    std::set<std::uint64_t> dropped;
    for (std::size_t i = 0; i + keep < all.size(); ++i) dropped.insert(all[i].generation);
    if (dropped.empty()) return {};
    const Status gone = drop_all(dropped);
    // A reader is no trouble: the next generation's retirement takes these along.
    if (!gone && gone.error().code() == Code::kUnavailable) return {};
    return gone;
}

Status Checkpointer::drop(std::uint64_t generation) { return drop_all({generation}); }

Status Checkpointer::mark(const GenerationRecord& record, ChunkSet& live) {
    PPDSM_ASSIGN(const Manifest manifest, load(record));
    Status marked;
    for_each_blob(manifest, [&](const BlobRef& blob) {
        if (marked) marked = mark_blob(*store_, blob, live);
    });
    return marked;
}

/// In this order a kill leaves at worst garbage: a generation is forgotten before its bytes go.
Status Checkpointer::drop_all(std::set<std::uint64_t> generations) {
    PPDSM_ASSIGN(const OwnedFd claim, claim_generations(paths_));
    ChunkSet live;
    for (const GenerationRecord& record : log_.state().generations) {
        if (generations.contains(record.generation)) continue;
        const Status marked = mark(record, live);
        if (marked) continue;
        const Code code = marked.error().code();
        // The newest is what the program's return depends on: it must be seen to be damaged, not
        // go.
        const bool is_last = record.generation == log_.state().last()->generation;
        if (is_last || (code != Code::kCorrupt && code != Code::kNotFound)) return marked;
        generations.insert(record.generation);
    }
    for (const std::uint64_t generation : generations) {
        PPDSM_TRY(log_.note_dropped(generation));
        fault_point("dropped");
        ::unlink(paths_.manifest(generation).c_str());
    }
    return store_->collect_garbage(live);
}

Result<Manifest> Checkpointer::load(const GenerationRecord& record) {
    return load_manifest(paths_, record);
}

Result<Manifest> load_manifest(const VcPaths& paths, const GenerationRecord& record) {
    const std::filesystem::path path = paths.manifest(record.generation);
    PPDSM_ASSIGN(const Bytes bytes, read_file(path, kMaxManifestBytes));
    if (ChunkId::of(bytes) != record.manifest) {
        return fail(Code::kCorrupt, path.string() + " is not the manifest that was committed");
    }
    return decode_manifest(bytes);
}

Status Checkpointer::restore_layers(const Manifest& manifest, const FileView& view) {
    for (const Layer& layer : manifest.layers) {
        const auto place = std::find_if(
            view.places.begin(), view.places.end(),
            [&](const WritablePlace& candidate) { return candidate.name == layer.name; });
        if (place == view.places.end()) {
            return fail(Code::kCorrupt,
                        "the generation has files for " + layer.name + ", which is not exposed");
        }
        const std::filesystem::path previous =
            paths_.previous_run() / place->upper.lexically_relative(paths_.run());
        PPDSM_TRY(restore_layer(*store_, layer, place->upper, previous));
    }
    return {};
}

Status Checkpointer::restore_layer_to(const Manifest& manifest, const std::string& name,
                                      const std::filesystem::path& directory) {
    const auto layer = std::find_if(manifest.layers.begin(), manifest.layers.end(),
                                    [&](const Layer& candidate) { return candidate.name == name; });
    if (layer == manifest.layers.end()) {
        return fail(Code::kCorrupt, "the generation has no files for " + name);
    }
    return restore_layer(*store_, *layer, directory);
}

Status Checkpointer::write_images(const Manifest& manifest, const OwnedFd& directory) {
    for (const ImageFile& image : manifest.images) {
        if (image.name.find('/') != std::string::npos) {
            return fail(Code::kCorrupt, "image name " + image.name);
        }
        PPDSM_ASSIGN(const OwnedFd file,
                     open_file_at(directory, image.name, O_RDWR | O_CREAT | O_TRUNC, 0600));
        if (Status written = write_blob_to(*store_, image.content, file); !written) {
            return fail(written.error().within(image.name));
        }
    }
    return {};
}

}  // namespace ppdsm
