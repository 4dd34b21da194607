// A private layer: the writable directory in which everything lands that a program writes at one of
// its writable places (for exposed directories the upper directory of an overlay mount). It is part
// of every checkpoint.
//
// Capturing must add little to the pause, so it has three steps:
//   precopy()  while the program runs: everything new goes into the store;
//   cut()      while the program is frozen: what changed since is copied aside (reflinked where the
//              file system can), metadata is read; no hashing, no compression;
//   finish()   when the program runs again: what was put aside goes into the store.
// A file counts as unchanged when inode, size, mtime and ctime equal those of its last capture, its
// ctime was then older than 50 ms (clock granularity: git's racy rule) plus the time that one long
// write(2) may take (it moves ctime when it begins, not when it ends; 64 MiB/s assumed), and no
// process maps it writable (the caller names such files: mmap writes do not always move mtime). On
// tmpfs mmap writes never do, so there every file is copied at every cut.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "criu-glue/manifest/manifest.h"
#include "criu-glue/store/blob.h"

namespace ppdsm {

/// LayerEntry::target of a kDevice that is a block device; empty: a character device.
inline constexpr const char* kBlockDeviceTarget = "block";

/// Device and inode of a file that some process has mapped writable and shared, as lstat shows them
/// in the layer's directory. (Through an overlay mount the same file shows other numbers: resolve
/// the mapping's path to the upper directory first.)
struct FileIdentity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    auto operator<=>(const FileIdentity&) const = default;
};

class LayerCapture {
public:
    /// `directory`: the layer's root, readable by us at this path. `staging`: an empty directory on
    /// the same file system, ours alone.
    LayerCapture(std::string name, std::filesystem::path directory, std::filesystem::path staging);
    LayerCapture(LayerCapture&&) noexcept;
    LayerCapture& operator=(LayerCapture&&) = delete;
    LayerCapture(const LayerCapture&) = delete;
    LayerCapture& operator=(const LayerCapture&) = delete;
    ~LayerCapture();

    /// What it stores is named by no manifest until finish(): collect no garbage in between. A file
    /// that vanishes or changes meanwhile is no error. Having called it, or cut(), the caller says
    /// that the layer of the last finish() is committed, unless abandon() came in between.
    Status precopy(ChunkStore& store);
    /// The program is frozen from before this call until after it.
    Status cut(const std::vector<FileIdentity>& mapped_writable);
    /// The layer as it was at cut(). Empties the staging directory.
    Result<Layer> finish(ChunkStore& store);
    /// Drops a cut that will not be committed, finished or not, and forgets what was stored for it.
    /// To be called after ChunkStore::abandon() too.
    void abandon();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Makes `directory` (empty or absent) hold exactly the layer.
/// `previous`, when given and there: the layer of an incarnation that is gone; files of the same
/// path keep their inode, since some programs know their files by it. What it had is taken apart.
Status restore_layer(ChunkStore& store, const Layer& layer, const std::filesystem::path& directory,
                     const std::filesystem::path& previous = {});

/// Paths are relative to home; directories are not listed by themselves.
struct ApplyReport {
    std::vector<std::string> written;  ///< Paths at home that now hold the program's version.
    std::vector<std::string> removed;  ///< Paths at home that the program removed.
    /// Changed at home during the run: home's version is kept, ours lies at the second path (empty:
    /// the program had removed it).
    std::vector<std::pair<std::string, std::string>> conflicts;
    /// "path: why": sockets, devices, owners and attributes that could not be kept.
    std::vector<std::string> skipped;
};

/// What home looked like when the run began, so that a change at home is noticed.
class HomeBaseline {
public:
    /// Remembers the moment; nothing is read of the tree (a file at home changed since when its
    /// ctime is later than `started_unix_ns` and we did not write it ourselves).
    static HomeBaseline at(std::int64_t started_unix_ns);
    [[nodiscard]] std::int64_t started_unix_ns() const { return started_unix_ns_; }

private:
    std::int64_t started_unix_ns_ = 0;
};

/// Merges an overlay upper directory into `home`: files by copy beside + rename (atomic per file),
/// whiteouts as removals, opaque directories replaced, symlinks, modes, times, owners and xattrs
/// kept (overlay's own xattrs dropped). Idempotent: run again after a kill it ends in the same
/// state. `applied` names paths (relative to home) with the ctime in ns that an earlier apply of
/// this run left there, so that our own writes are no conflicts; it is updated, after an error too.
/// What an earlier apply left and the upper directory has no more is removed (entries that end in
/// '/' are directories that were not there before us).
/// An apply that was killed must be repeated with the same upper directory before the program goes
/// on: what it wrote is in no `applied` and recognised by being equal. The root's own mode, owner
/// and times are home's and stay. An overlay redirect or metacopy is Code::kUnsupported, before
/// anything is touched.
Result<ApplyReport> apply_layer(const std::filesystem::path& upper,
                                const std::filesystem::path& home, const HomeBaseline& baseline,
                                std::vector<std::pair<std::string, std::int64_t>>& applied);

}  // namespace ppdsm
