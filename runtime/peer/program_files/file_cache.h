// The contents that this peer has of other peers' files (and of its own programs' exposures): one
// plain file each, named by its FileId. Below its directory:
//   content/XX/<32 hex>  complete, checked and synced before they got this name
//   incoming/            being fetched; emptied at the start
//   index                what was seen at a path: a log of lines, a help only
//   habits/<32 hex>      what programs of a kind were shown the last time, a help only
// Any of it may be removed by hand while no daemon runs. What exceeds the bound goes, least
// recently used first, except what is pinned.
//
// On the loop's thread; disks are waited for by the pool's threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dsm/io/loop.h"
#include "runtime/peer/program_files/file_habit.h"
#include "runtime/peer/program_files/file_source.h"

namespace ppdsm {

class FileCache {
public:
    struct Options {
        std::filesystem::path directory;  ///< <home>/cache/files; made if absent.
        std::uint64_t limit_bytes = std::uint64_t{16} << 30;
    };
    /// Reads the directory: before the loop runs. kUnavailable: another process has it.
    static Result<std::unique_ptr<FileCache>> open(Loop& loop, Options options);
    ~FileCache();
    FileCache(const FileCache&) = delete;
    FileCache& operator=(const FileCache&) = delete;

    /// Keeps contents from being dropped, those not there yet included, until it is destroyed. It
    /// may outlive the cache.
    class Pin {
    public:
        ~Pin();
        Pin(const Pin&) = delete;
        Pin& operator=(const Pin&) = delete;
        void add(FileId file);

    private:
        friend class FileCache;
        struct Impl;
        Pin();
        std::unique_ptr<Impl> impl_;
    };
    std::unique_ptr<Pin> pin();

    [[nodiscard]] bool holds(FileId file) const;
    [[nodiscard]] std::uint64_t used_bytes() const;

    /// A descriptor to read the whole content from, and counts as a use. kNotFound: it is not here.
    void open_content(FileId file, std::function<void(Result<OwnedFd>)> done);
    /// For other peers. kNotFound: it is not here; kCorrupt: it was damaged, and is dropped.
    void layout(FileId file, std::function<void(Result<FileLayout>)> done);
    void piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done);

    /// A content that is coming in. Destroyed before it is complete: nothing is left of it.
    class Incoming {
    public:
        ~Incoming();
        Incoming(const Incoming&) = delete;
        Incoming& operator=(const Incoming&) = delete;
        /// Checks (kCorrupt: not what the layout names) and writes. Several at a time, any order.
        void put(std::uint32_t index, Bytes piece, std::function<void(Status)> done);
        /// All pieces are there. `readable`: at once, a descriptor to read from. `kept`: it is in
        /// the cache for good (synced and renamed), or why not.
        void finish(std::function<void(Result<OwnedFd>)> readable,
                    std::function<void(Status)> kept);

    private:
        friend class FileCache;
        struct Impl;
        explicit Incoming(std::shared_ptr<Impl> impl);
        std::shared_ptr<Impl> impl_;
    };
    /// kOverloaded: more than the bound, whatever is dropped.
    Result<std::unique_ptr<Incoming>> begin(FileLayout layout);

    /// What `owner` (any text, without spaces) showed at a path when it was last asked.
    [[nodiscard]] std::optional<FileId> known_listing(const std::string& owner,
                                                      const std::string& path) const;
    void remember_listing(const std::string& owner, const std::string& path, FileId listing);
    [[nodiscard]] std::optional<FileId> known_content(const std::string& owner,
                                                      const std::string& path,
                                                      const FileVersion& version) const;
    void remember_content(const std::string& owner, const std::string& path,
                          const FileVersion& version, FileId content);

    /// What programs of that kind were shown the last time. `kind`: any text.
    void load_habit(const std::string& kind, std::function<void(FileHabit)> done);
    void keep_habit(const std::string& kind, const FileHabit& habit);

private:
    struct Impl;
    explicit FileCache(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace ppdsm
