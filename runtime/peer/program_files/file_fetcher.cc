#include "runtime/peer/program_files/file_fetcher.h"

#include <fcntl.h>

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/peer/program_files/pool_job.h"

namespace ppdsm {

namespace {

/// A piece that is not what it should be is asked for again, so often: sources have several
/// holders.
constexpr std::uint32_t kMostTriesAPiece = 3;
constexpr std::size_t kFilesAtOnce = 16;

}  // namespace

struct FileFetcher::Impl : std::enable_shared_from_this<FileFetcher::Impl> {
    struct Waiter {
        bool durable;
        std::function<void(Result<OwnedFd>)> done;
    };
    struct Fetch {
        FileLayout layout;
        std::unique_ptr<FileCache::Incoming> incoming;
        std::vector<std::uint32_t> tries;  ///< By piece.
        std::uint32_t next_piece = 0;
        std::size_t missing_pieces = 0;
        OwnedFd readable;  ///< Valid once it is.
        std::vector<Waiter> waiting;
        Pieces pieces;  ///< Empty: from the source.
    };

    Impl(Loop& loop_in, FileCache& cache_in, FileSource& source_in)
        : loop(loop_in), cache(cache_in), source(source_in) {}

    struct Wanted {
        FileId file;
        std::optional<FileLayout> layout;
        Pieces pieces;
    };
    void fetch(Wanted wanted, Waiter waiter);
    void start(Wanted wanted, Waiter waiter);
    void begin(FileId file, FileLayout layout);
    void ask_for_pieces();
    void ask(FileId file, std::uint32_t index);
    void take_piece(FileId file, std::uint32_t index, Result<Bytes> bytes);
    void piece_written(FileId file, std::uint32_t index, const Status& written);
    void finish(FileId file);
    void give(FileId file, bool is_durable);
    void give_up(FileId file, const Error& error);

    Loop& loop;
    FileCache& cache;
    FileSource& source;
    std::unordered_map<FileId, Fetch, FileIdHash> fetches;
    std::deque<FileId> hungry;  ///< Have pieces that have not been asked for.
    std::size_t pieces_under_way = 0;
};

void FileFetcher::Impl::fetch(Wanted wanted, Waiter waiter) {
    const FileId file = wanted.file;
    if (fetches.contains(file) || !cache.holds(file)) {
        return start(std::move(wanted), std::move(waiter));
    }
    cache.open_content(file, [weak = weak_from_this(), wanted = std::move(wanted),
                              waiter = std::move(waiter)](Result<OwnedFd> fd) mutable {
        if (fd) return waiter.done(std::move(fd));
        if (const auto self = weak.lock()) self->start(std::move(wanted), std::move(waiter));
    });
}

void FileFetcher::Impl::start(Wanted wanted, Waiter waiter) {
    const FileId file = wanted.file;
    if (const auto known = fetches.find(file); known != fetches.end()) {
        known->second.waiting.push_back(std::move(waiter));
        if (known->second.readable.valid()) give(file, false);
        return;
    }
    Fetch& fetch = fetches[file];
    fetch.waiting.push_back(std::move(waiter));
    fetch.pieces = std::move(wanted.pieces);
    if (wanted.layout) return begin(file, *std::move(wanted.layout));
    source.layout(file, [weak = weak_from_this(), file](Result<FileLayout> answer) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        if (!answer) return self->give_up(file, answer.error());
        self->begin(file, *std::move(answer));
    });
}

void FileFetcher::Impl::begin(FileId file, FileLayout layout) {
    if (!layout.is_sound() || layout.id() != file) {
        return give_up(file, Error(Code::kCorrupt, "the pieces of content " + file.to_string() +
                                                       " are not those of its name"));
    }
    Result<std::unique_ptr<FileCache::Incoming>> incoming = cache.begin(layout);
    if (!incoming) return give_up(file, incoming.error());
    Fetch& fetch = fetches.at(file);
    fetch.incoming = *std::move(incoming);
    fetch.missing_pieces = layout.pieces.size();
    fetch.tries.resize(layout.pieces.size());
    fetch.layout = std::move(layout);
    if (fetch.missing_pieces == 0) return finish(file);
    hungry.push_back(file);
    ask_for_pieces();
}

void FileFetcher::Impl::ask_for_pieces() {
    while (!hungry.empty() && pieces_under_way < kMostPiecesUnderWay) {
        const FileId file = hungry.front();
        const auto found = fetches.find(file);
        if (found == fetches.end() ||
            found->second.next_piece == found->second.layout.pieces.size()) {
            hungry.pop_front();
            continue;
        }
        ask(file, found->second.next_piece++);
    }
}

void FileFetcher::Impl::ask(FileId file, std::uint32_t index) {
    ++pieces_under_way;
    auto take = [weak = weak_from_this(), file, index](Result<Bytes> bytes) {
        if (const auto self = weak.lock()) self->take_piece(file, index, std::move(bytes));
    };
    const Pieces& pieces = fetches.at(file).pieces;
    pieces ? pieces(index, std::move(take)) : source.piece(file, index, std::move(take));
}

void FileFetcher::Impl::take_piece(FileId file, std::uint32_t index, Result<Bytes> bytes) {
    const auto found = fetches.find(file);
    if (found == fetches.end() || !bytes) {
        --pieces_under_way;
        if (found != fetches.end()) give_up(file, bytes.error());
        return ask_for_pieces();
    }
    found->second.incoming->put(index, *std::move(bytes),
                                [weak = weak_from_this(), file, index](const Status& written) {
                                    const auto self = weak.lock();
                                    if (self == nullptr) return;
                                    --self->pieces_under_way;
                                    self->piece_written(file, index, written);
                                    self->ask_for_pieces();
                                });
}

void FileFetcher::Impl::piece_written(FileId file, std::uint32_t index, const Status& written) {
    const auto found = fetches.find(file);
    if (found == fetches.end()) return;
    Fetch& fetch = found->second;
    if (!written) {
        const bool may_try =
            written.error().code() == Code::kCorrupt && ++fetch.tries[index] < kMostTriesAPiece;
        return may_try ? ask(file, index) : give_up(file, written.error());
    }
    if (--fetch.missing_pieces == 0) finish(file);
}

void FileFetcher::Impl::finish(FileId file) {
    fetches.at(file).incoming->finish(
        [weak = weak_from_this(), file](Result<OwnedFd> readable) {
            const auto self = weak.lock();
            if (self == nullptr || !readable) return;  // The other one is told too.
            self->fetches.at(file).readable = *std::move(readable);
            self->give(file, false);
        },
        [weak = weak_from_this(), file](const Status& kept) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            if (!kept) return self->give_up(file, kept.error());
            self->give(file, true);
            self->fetches.erase(file);
        });
}

/// To those who wait for no more than there is.
void FileFetcher::Impl::give(FileId file, bool is_durable) {
    Fetch& fetch = fetches.at(file);
    std::vector<Waiter> served;
    for (auto waiter = fetch.waiting.begin(); waiter != fetch.waiting.end();) {
        if (waiter->durable && !is_durable) {
            ++waiter;
            continue;
        }
        served.push_back(std::move(*waiter));
        waiter = fetch.waiting.erase(waiter);
    }
    std::vector<OwnedFd> copies;
    for (std::size_t i = 0; i < served.size(); ++i) {
        copies.emplace_back(::fcntl(fetch.readable.get(), F_DUPFD_CLOEXEC, 0));
    }
    for (std::size_t i = 0; i < served.size(); ++i) {
        if (copies[i].valid()) {
            served[i].done(std::move(copies[i]));
        } else {
            served[i].done(fail(Code::kOverloaded, "no descriptor for a content"));
        }
    }
}

void FileFetcher::Impl::give_up(FileId file, const Error& error) {
    const auto found = fetches.find(file);
    if (found == fetches.end()) return;
    const std::vector<Waiter> waiting = std::move(found->second.waiting);
    fetches.erase(found);
    for (const Waiter& waiter : waiting) waiter.done(fail(error));
}

FileFetcher::FileFetcher(Loop& loop, FileCache& cache, FileSource& source)
    : impl_(std::make_shared<Impl>(loop, cache, source)) {}
FileFetcher::~FileFetcher() = default;

void FileFetcher::fetch(FileId file, std::optional<FileLayout> layout, bool durable,
                        std::function<void(Result<OwnedFd>)> done) {
    impl_->fetch({file, std::move(layout), {}}, {durable, std::move(done)});
}

void FileFetcher::fetch_from(FileLayout layout, Pieces pieces, bool durable,
                             std::function<void(Result<OwnedFd>)> done) {
    const FileId file = layout.id();
    impl_->fetch({file, std::move(layout), std::move(pieces)}, {durable, std::move(done)});
}

FileFetcher::Pieces FileFetcher::from_memory(Bytes content) {
    auto shared = std::make_shared<const Bytes>(std::move(content));
    return [&loop = impl_->loop, shared](std::uint32_t index,
                                         std::function<void(Result<Bytes>)> done) {
        const std::size_t begin = index * kPieceBytes;
        const std::size_t size = std::min<std::size_t>(kPieceBytes, shared->size() - begin);
        const auto first = shared->begin() + static_cast<std::ptrdiff_t>(begin);
        loop.post([piece = Bytes(first, first + static_cast<std::ptrdiff_t>(size)),
                   done = std::move(done)] { done(piece); });
    };
}

FileFetcher::Pieces FileFetcher::from_file(OwnedFd file, FileLayout layout) {
    auto shared =
        std::make_shared<const std::pair<OwnedFd, FileLayout>>(std::move(file), std::move(layout));
    return [&loop = impl_->loop, shared](std::uint32_t index,
                                         std::function<void(Result<Bytes>)> done) {
        run_in_pool(
            loop,
            [shared, index]() -> Result<Bytes> {
                const auto& [fd, pieces] = *shared;
                Bytes piece(pieces.piece_bytes(index));
                PPDSM_TRY(read_exactly_at(fd, piece, index * kPieceBytes));
                return piece;
            },
            std::move(done));
    };
}

void FileFetcher::fetch_all(std::vector<FileId> files, std::function<void(Status)> done) {
    struct All {
        std::vector<FileId> files;
        std::size_t next = 0;
        std::size_t under_way = 0;
        Status first_error;
        std::function<void(Status)> done;
        FileFetcher::Impl* fetcher;

        static void go_on(const std::shared_ptr<All>& all) {
            while (all->first_error && all->next < all->files.size() &&
                   all->under_way < kFilesAtOnce) {
                ++all->under_way;
                all->fetcher->fetch({all->files[all->next++], {}, {}},
                                    {true, [all](const Result<OwnedFd>& fd) {
                                         --all->under_way;
                                         if (!fd && all->first_error) {
                                             all->first_error = fail(fd.error());
                                         }
                                         go_on(all);
                                     }});
            }
            if (all->under_way == 0 && all->done) std::exchange(all->done, {})(all->first_error);
        }
    };
    auto all = std::make_shared<All>();
    all->files = std::move(files);
    all->done = std::move(done);
    all->fetcher = impl_.get();
    impl_->loop.post([all, weak = std::weak_ptr(impl_)] {
        if (!weak.expired()) All::go_on(all);
    });
}

void FileFetcher::settle(std::function<void(Status)> done) {
    struct Settling {
        std::size_t waiting = 1;
        Status first_error;
        std::function<void(Status)> done;
        void one_less(const Status& kept) {
            if (!kept && first_error) first_error = kept;
            if (--waiting == 0) done(first_error);
        }
    };
    auto settling = std::make_shared<Settling>();
    settling->done = std::move(done);
    for (auto& [file, fetch] : impl_->fetches) {
        if (!fetch.readable.valid()) continue;
        ++settling->waiting;
        fetch.waiting.push_back({true, [settling](const Result<OwnedFd>& kept) {
                                     settling->one_less(kept ? Status() : fail(kept.error()));
                                 }});
    }
    impl_->loop.post([settling] { settling->one_less({}); });
}

}  // namespace ppdsm
