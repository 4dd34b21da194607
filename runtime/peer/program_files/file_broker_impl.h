// The inside of a broker, in three files: the channel (file_broker.cc), what is shown
// (file_broker_tree.cc), and what is got ready ahead (file_broker_ahead.cc).
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "criu-glue/sandbox/directory_listing.h"
#include "criu-glue/sandbox/file_channel.h"
#include "runtime/peer/program_files/file_broker.h"
#include "runtime/peer/program_files/file_fetcher.h"
#include "runtime/peer/program_files/file_habit.h"

namespace ppdsm {

/// The path itself for "/".
std::string parent_of(const std::string& path);

struct FileBroker::Impl : std::enable_shared_from_this<FileBroker::Impl> {
    using Listing = std::shared_ptr<const DirectoryListing>;
    using GiveFile = std::function<void(Result<OwnedFd>)>;

    struct Channel {
        FileChannel channel;
        std::unique_ptr<Poller> poller;
    };
    /// A content on its way.
    struct Wanted {
        std::string path;
        const PlannedRoot* root;
        bool durable;
        GiveFile done;
        FileVersion version;
        FileId file;
        std::optional<FileLayout> layout;  ///< From the owner, just now.
        bool is_settled = false;           ///< As in ContentAnswer.
    };

    Impl(Loop& loop_in, FileCache& cache_in, FileSource& source_in, Setup setup_in,
         FileCatalog catalog_in)
        : loop(loop_in),
          cache(cache_in),
          source(source_in),
          setup(std::move(setup_in)),
          catalog(std::move(catalog_in)),
          fetcher(loop, cache, source),
          pin(cache.pin()) {
        for (const FileId file : catalog.contents()) pin->add(file);
    }

    [[nodiscard]] const PlannedRoot* root_of(const std::string& path) const;

    // Listings (file_broker_tree.cc).
    void need_listing(const std::string& path, bool durable, GiveFile done);
    void ask_listing(const std::string& path, bool durable, GiveFile done);
    void list_again(const std::string& path, FileId listing, bool durable, GiveFile done);
    void take_listing(const std::string& path, ListAnswer answer, bool durable, GiveFile done);
    void show_listing(const std::string& path, FileId listing, Result<OwnedFd> file, bool durable,
                      const GiveFile& done);
    void need_decoded(const std::string& path, bool durable,
                      std::function<void(Result<Listing>)> done);
    void remember_decoded(const std::string& path, const Listing& listing);

    // Contents.
    void need_content(const std::string& path, bool durable, GiveFile done);
    void find_content(Wanted wanted);
    void ask_content(Wanted wanted);
    void get_content(Wanted wanted);
    void copy_own_file(Wanted wanted);
    void fetch_content(Wanted wanted);
    void show_content(const Wanted& wanted, Result<OwnedFd> file);

    // The channel.
    void attach(OwnedFd socket);
    void on_channel(const std::shared_ptr<Channel>& from, int events);
    void answer(const std::shared_ptr<Channel>& from, FileRequest request);
    void reply(const std::shared_ptr<Channel>& to, std::uint64_t id, Result<OwnedFd> file);
    void watch(const std::shared_ptr<Channel>& watched) const {
        watched->poller->watch(UV_READABLE | UV_DISCONNECT |
                               (watched->channel.has_unsent() ? UV_WRITABLE : 0));
    }
    void hang_up();

    // What is got ready ahead (file_broker_ahead.cc).
    void get_ready();
    void get_ready(const FileHabit& habit);
    void give_listing(const std::string& path, FileId listing);
    void give_content(const std::string& path, FileId content);
    void give(FileRequest::Kind kind, const std::string& path, Result<OwnedFd> file);
    void note_use(FileRequest::Kind kind, const std::string& path);
    void keep_habit();
    [[nodiscard]] std::string kind_of_run() const { return setup.owner + " " + setup.habit; }

    Loop& loop;
    FileCache& cache;
    FileSource& source;
    Setup setup;
    FileCatalog catalog;
    FileFetcher fetcher;
    std::unique_ptr<FileCache::Pin> pin;
    std::shared_ptr<Channel> channel;
    std::list<std::pair<std::string, Listing>> decoded;           ///< The last used first.
    std::vector<std::pair<FileRequest::Kind, std::string>> used;  ///< In the order of asking.
    std::set<std::pair<FileRequest::Kind, std::string>> used_once;
    std::set<std::string> unsettled;  ///< Contents that their version may not name for long.
};

}  // namespace ppdsm
