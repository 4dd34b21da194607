// What a broker gets ready while the sandbox is still being made: what a program of the same kind
// was shown the last time and is unchanged at home, as one question to the owner says.
#include <sys/stat.h>

#include <algorithm>

#include "runtime/peer/program_files/file_broker_impl.h"

namespace ppdsm {

void FileBroker::Impl::get_ready() {
    if (setup.habit.empty()) return;
    cache.load_habit(kind_of_run(), [weak = weak_from_this()](const FileHabit& habit) {
        if (const auto self = weak.lock()) self->get_ready(habit);
    });
}

void FileBroker::Impl::get_ready(const FileHabit& habit) {
    struct Ahead {
        std::set<std::string> same;  ///< Directories that show what they showed.
        FileHabit habit;
    };
    auto ahead = std::make_shared<Ahead>(Ahead{{}, habit});
    std::vector<ListQuery> queries;
    for (const FileHabit::Entry& entry : habit.entries) {
        if (entry.kind != FileHabit::Kind::kList || root_of(entry.path) == nullptr) continue;
        const std::optional<FileId> shown = catalog.listing(entry.path);
        if (shown && *shown == entry.file) ahead->same.insert(entry.path);
        if (shown || !cache.holds(entry.file) || queries.size() == FileSource::kMostQueries)
            continue;
        pin->add(entry.file);
        queries.push_back({entry.path, entry.file});
    }
    auto give_all = [weak = weak_from_this(), ahead] {
        const auto self = weak.lock();
        if (self == nullptr) return;
        for (const FileHabit::Entry& entry : ahead->habit.entries) {
            if (entry.kind == FileHabit::Kind::kList) {
                if (ahead->same.contains(entry.path)) self->give_listing(entry.path, entry.file);
            } else if (ahead->same.contains(entry.path) ||  // A file that is a root.
                       ahead->same.contains(parent_of(entry.path))) {
                self->give_content(entry.path, entry.file);
            }
        }
    };
    if (queries.empty()) return give_all();
    source.list(queries, [weak = weak_from_this(), ahead, queries,
                          give_all = std::move(give_all)](std::vector<Result<ListAnswer>> answers) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        for (std::size_t i = 0; i < std::min(queries.size(), answers.size()); ++i) {
            const std::string& path = queries[i].path;
            if (!answers[i]) continue;
            if (answers[i]->unchanged) {
                ahead->same.insert(path);
                continue;
            }
            self->take_listing(path, *std::move(answers[i]), false,
                               [weak, path](Result<OwnedFd> file) {
                                   const auto still = weak.lock();
                                   if (still == nullptr) return;
                                   still->give(FileHabit::Kind::kList, path, std::move(file));
                               });
        }
        give_all();
    });
}

void FileBroker::Impl::give_listing(const std::string& path, FileId listing) {
    ListAnswer known;
    known.listing = listing;
    known.unchanged = true;
    take_listing(path, std::move(known), false, [weak = weak_from_this(), path](auto file) {
        if (const auto self = weak.lock()) {
            self->give(FileHabit::Kind::kList, path, std::move(file));
        }
    });
}

/// Only what is here: a program that wants it this time can ask for the rest.
void FileBroker::Impl::give_content(const std::string& path, FileId content) {
    if (root_of(path) == nullptr || !cache.holds(content)) return;
    if (const auto shown = catalog.content(path); shown && *shown != content) return;
    fetcher.fetch(content, {}, false, [weak = weak_from_this(), path, content](auto file) {
        const auto self = weak.lock();
        struct stat info{};
        if (self == nullptr || !file || ::fstat(file->get(), &info) != 0) return;
        self->pin->add(content);
        const Status added =
            self->catalog.add_content(path, content, static_cast<std::uint64_t>(info.st_size));
        const std::optional<FileId> shown = self->catalog.content(path);
        if (!added || shown != content) return;
        self->give(FileHabit::Kind::kContent, path, std::move(file));
    });
}

void FileBroker::Impl::give(FileRequest::Kind kind, const std::string& path, Result<OwnedFd> file) {
    if (channel == nullptr || !file) return;
    FileReply given;
    given.id = kUnasked;
    given.kind = kind;
    given.path = path;
    given.file = *std::move(file);
    if (channel->channel.send(std::move(given))) watch(channel);
}

void FileBroker::Impl::note_use(FileRequest::Kind kind, const std::string& path) {
    if (setup.habit.empty() || used.size() >= FileHabit::kMostEntries) return;
    if (used_once.emplace(kind, path).second) used.emplace_back(kind, path);
}

void FileBroker::Impl::keep_habit() {
    FileHabit habit;
    for (const auto& [kind, path] : used) {
        const bool is_listing = kind == FileHabit::Kind::kList;
        if (!is_listing && unsettled.contains(path)) continue;
        const std::optional<FileId> file =
            is_listing ? catalog.listing(path) : catalog.content(path);
        if (file) habit.entries.push_back({kind, path, *file});
    }
    if (!setup.habit.empty() && !habit.entries.empty()) cache.keep_habit(kind_of_run(), habit);
}

}  // namespace ppdsm
