// The worker's side of one hosted virtual computer's files: answers its file server (ppdsm-files,
// in the sandbox's warden) from the cache and gets what lacks from the source. One for the VC's
// life on this peer; every incarnation attaches a channel of its own.
//
// What it has shown once is in the catalog and stays: the listing of a directory and the content of
// a file are never asked for twice, and the cache keeps them while the broker lives.
//
// On the loop's thread.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dsm/io/loop.h"
#include "runtime/peer/program_files/file_cache.h"
#include "runtime/peer/program_files/file_catalog.h"
#include "runtime/peer/program_files/file_source.h"
#include "runtime/peer/view_plan.h"

namespace ppdsm {

class FileBroker {
public:
    struct Setup {
        ViewPlan plan;
        std::string owner;  ///< Whose tree it is, for the cache's index: its peer id.
        /// Beside the VC; kept and replicated with it.
        std::filesystem::path catalog;
        /// What kind of run it is (its program): what the last of its kind was shown is got ready
        /// when the channel is attached, while the sandbox is still being made. Empty: of none.
        std::string habit = {};
        /// A system file of which this host has an equal one at the same path is copied from there.
        bool use_own_system_files = true;
    };
    /// `cache` and `source` outlive it. Reads the catalog.
    static Result<std::unique_ptr<FileBroker>> open(Loop& loop, FileCache& cache,
                                                    FileSource& source, Setup setup);
    ~FileBroker();
    FileBroker(const FileBroker&) = delete;
    FileBroker& operator=(const FileBroker&) = delete;

    /// The daemon's end of an incarnation's channel (SOCK_SEQPACKET); the end of the one before.
    void attach(OwnedFd channel);

    struct Progress {
        std::uint64_t directories = 0;
        std::uint64_t files = 0;
        std::uint64_t bytes = 0;  ///< Of the files that are complete.
    };
    struct Exposures {
        Progress total;
        /// "path: why": what could not be fetched, changed at home meanwhile included. Asked for by
        /// the program it is an error of its own then.
        std::vector<std::string> problems;
    };
    /// Fetches all that lies below the roots that are not the system's, durably. Then the catalog
    /// names what a replica must hold. kOverloaded: more than the cache may have; kUnavailable: the
    /// owner is gone.
    void complete_exposures(std::function<void(const Progress&)> progress,
                            std::function<void(Result<Exposures>)> done);

    /// What has been shown so far is durable here, the catalog included: before a commit.
    void settle(std::function<void(Status)> done);

    /// Grows whenever something is shown that was not before: bring the replicas up to date before
    /// the next commit.
    [[nodiscard]] const FileCatalog& catalog() const;

private:
    struct Impl;
    explicit FileBroker(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace ppdsm
