// Turns what a dump and a cut left (image files in memory, layers put aside) into one committed
// generation, and a generation back into image files and layers. Blocking work for a pool thread;
// the executor never runs two calls at once.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "criu-glue/files/layer.h"
#include "criu-glue/manifest/manifest.h"
#include "criu-glue/store/chunk_store.h"
#include "runtime/peer/commit_log.h"
#include "runtime/peer/file_view.h"
#include "runtime/peer/home.h"
#include "runtime/peer/journals.h"

namespace ppdsm {

/// What the executor knows at the cut.
struct CutRecord {
    std::uint64_t output_bytes = 0;
    std::uint64_t input_bytes = 0;
    std::uint64_t input_signals = 0;
    std::uint64_t calls = 0;  ///< See GenerationRecord.
    std::uint32_t cut_us = 0;
    bool terminal = false;
    std::vector<std::string> stdio_keys;
};

class Checkpointer {
public:
    /// `log` and `output` belong to the executor and are used only during calls.
    static Result<std::unique_ptr<Checkpointer>> open(const VcPaths& paths, CommitLog& log,
                                                      OutputLog& output, HostRecord host);

    /// A new incarnation: captures begin anew over these places.
    void attach(const FileView& view);
    Status precopy();
    /// Fast; on the loop's thread, while the program is frozen.
    Status cut(const std::vector<FileIdentity>& mapped_writable);
    void abandon();

    /// Stores and makes durable. On failure nothing has changed.
    Result<GenerationRecord> prepare(const OwnedFd& images, const CutRecord& cut);
    /// The same of the layers alone, whose program has ended.
    Result<GenerationRecord> prepare_files(const CutRecord& cut);
    /// Afterwards the generation exists.
    Status commit(const GenerationRecord& record);
    /// Drops all but the last `keep` generations, those that prove damaged, and what only they
    /// needed.
    Status retire(std::uint32_t keep);
    /// Drops one generation and what only it needed.
    Status drop(std::uint64_t generation);

    /// The generation's manifest, checked against its record.
    Result<Manifest> load(const GenerationRecord& record);
    /// Puts the layers' content into the places of a fresh view.
    Status restore_layers(const Manifest& manifest, const FileView& view);
    /// One layer's content, into a directory that is empty or absent.
    Status restore_layer_to(const Manifest& manifest, const std::string& name,
                            const std::filesystem::path& directory);
    Status write_images(const Manifest& manifest, const OwnedFd& directory);

    [[nodiscard]] ChunkStore& store() { return *store_; }

private:
    Status drop_all(std::set<std::uint64_t> generations);
    Status mark(const GenerationRecord& record, ChunkSet& live);
    Checkpointer(VcPaths paths, CommitLog& log, OutputLog& output, HostRecord host,
                 std::unique_ptr<ChunkStore> store)
        : paths_(std::move(paths)),
          log_(log),
          output_(output),
          host_(std::move(host)),
          store_(std::move(store)) {}
    Status store_images(const OwnedFd& images, Manifest& manifest);
    Result<GenerationRecord> finish(Manifest manifest, const CutRecord& cut,
                                    std::uint64_t before_bytes);

    VcPaths paths_;
    CommitLog& log_;
    OutputLog& output_;
    HostRecord host_;
    std::unique_ptr<ChunkStore> store_;
    std::vector<LayerCapture> captures_;
    std::vector<SandboxMount> mounts_;
};

/// Reads a manifest file and checks it against the name the commit log gave it.
Result<Manifest> load_manifest(const VcPaths& paths, const GenerationRecord& record);

}  // namespace ppdsm
