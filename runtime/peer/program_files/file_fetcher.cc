#include "runtime/peer/program_files/file_fetcher.h"

#include <fcntl.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/peer/program_files/pool_job.h"

namespace ppdsm {

namespace {

/// A piece that is not what it should be is asked for again, so often: sources have several
/// holders.
constexpr std::uint32_t kMostTriesAPiece = 3;
constexpr std::size_t kFilesAtOnce = 128;

}  // namespace

struct FileFetcher::Impl : std::enable_shared_from_this<FileFetcher::Impl> {
    struct Waiter {
        bool durable;
        std::function<void(Result<OwnedFd>)> done;
    };
    /// Tells a fetch from an earlier one of the same content, whose answers may still come.
    struct Ticket {
        FileId file;
        std::uint64_t serial;
    };
    struct Fetch {
        std::uint64_t serial = 0;
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
    void begin(Ticket ticket, FileLayout layout);
    void ask_for_pieces();
    void ask(Ticket ticket, std::uint32_t index);
    void take_piece(Ticket ticket, std::uint32_t index, Result<Bytes> bytes);
    void piece_written(Ticket ticket, std::uint32_t index, const Status& written);
    void finish(Ticket ticket);
    void give_readable(FileId file);
    static void serve(std::vector<Waiter> served, const OwnedFd& readable);
    void give_up(Ticket ticket, const Error& error);
    [[nodiscard]] Fetch* find(Ticket ticket) {
        const auto found = fetches.find(ticket.file);
        const bool is_it = found != fetches.end() && found->second.serial == ticket.serial;
        return is_it ? &found->second : nullptr;
    }

    Loop& loop;
    FileCache& cache;
    FileSource& source;
    std::unordered_map<FileId, Fetch, FileIdHash> fetches;
    std::uint64_t last_serial = 0;
    std::deque<Ticket> hungry;  ///< Have pieces that have not been asked for.
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
        if (known->second.readable.valid()) give_readable(file);
        return;
    }
    Fetch& fetch = fetches[file];
    fetch.serial = ++last_serial;
    fetch.waiting.push_back(std::move(waiter));
    fetch.pieces = std::move(wanted.pieces);
    const Ticket ticket{file, fetch.serial};
    if (wanted.layout) return begin(ticket, *std::move(wanted.layout));
    source.layout(file, [weak = weak_from_this(), ticket](Result<FileLayout> answer) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        if (!answer) return self->give_up(ticket, answer.error());
        self->begin(ticket, *std::move(answer));
    });
}

void FileFetcher::Impl::begin(Ticket ticket, FileLayout layout) {
    Fetch* fetch = find(ticket);
    if (fetch == nullptr) return;
    if (!layout.is_sound() || layout.id() != ticket.file) {
        return give_up(ticket,
                       Error(Code::kCorrupt, "the pieces of content " + ticket.file.to_string() +
                                                 " are not those of its name"));
    }
    Result<std::unique_ptr<FileCache::Incoming>> incoming = cache.begin(layout);
    if (!incoming) return give_up(ticket, incoming.error());
    fetch->incoming = *std::move(incoming);
    fetch->missing_pieces = layout.pieces.size();
    fetch->tries.resize(layout.pieces.size());
    fetch->layout = std::move(layout);
    if (fetch->missing_pieces == 0) return finish(ticket);
    hungry.push_back(ticket);
    ask_for_pieces();
}

void FileFetcher::Impl::ask_for_pieces() {
    while (!hungry.empty() && pieces_under_way < kMostPiecesUnderWay) {
        const Ticket ticket = hungry.front();
        Fetch* fetch = find(ticket);
        if (fetch == nullptr || fetch->next_piece == fetch->layout.pieces.size()) {
            hungry.pop_front();
            continue;
        }
        ask(ticket, fetch->next_piece++);
    }
}

void FileFetcher::Impl::ask(Ticket ticket, std::uint32_t index) {
    ++pieces_under_way;
    auto take = [weak = weak_from_this(), ticket, index](Result<Bytes> bytes) {
        if (const auto self = weak.lock()) self->take_piece(ticket, index, std::move(bytes));
    };
    const Pieces& pieces = find(ticket)->pieces;
    pieces ? pieces(index, std::move(take)) : source.piece(ticket.file, index, std::move(take));
}

void FileFetcher::Impl::take_piece(Ticket ticket, std::uint32_t index, Result<Bytes> bytes) {
    Fetch* fetch = find(ticket);
    if (fetch == nullptr || !bytes) {
        --pieces_under_way;
        if (fetch != nullptr) give_up(ticket, bytes.error());
        return ask_for_pieces();
    }
    fetch->incoming->put(index, *std::move(bytes),
                         [weak = weak_from_this(), ticket, index](const Status& written) {
                             const auto self = weak.lock();
                             if (self == nullptr) return;
                             --self->pieces_under_way;
                             self->piece_written(ticket, index, written);
                             self->ask_for_pieces();
                         });
}

void FileFetcher::Impl::piece_written(Ticket ticket, std::uint32_t index, const Status& written) {
    Fetch* fetch = find(ticket);
    if (fetch == nullptr) return;
    if (!written) {
        const bool may_try =
            written.error().code() == Code::kCorrupt && ++fetch->tries[index] < kMostTriesAPiece;
        return may_try ? ask(ticket, index) : give_up(ticket, written.error());
    }
    if (--fetch->missing_pieces == 0) finish(ticket);
}

void FileFetcher::Impl::finish(Ticket ticket) {
    find(ticket)->incoming->finish(
        [weak = weak_from_this(), ticket](Result<OwnedFd> readable) {
            const auto self = weak.lock();
            Fetch* fetch = self == nullptr ? nullptr : self->find(ticket);
            if (fetch == nullptr || !readable) return;  // The other one is told too.
            fetch->readable = *std::move(readable);
            self->give_readable(ticket.file);
        },
        [weak = weak_from_this(), ticket](const Status& kept) {
            const auto self = weak.lock();
            if (self == nullptr || self->find(ticket) == nullptr) return;
            if (!kept) return self->give_up(ticket, kept.error());
            // Who asks from now on, also out of what is called here, finds it in the cache.
            auto fetch = self->fetches.extract(ticket.file);
            serve(std::move(fetch.mapped().waiting), fetch.mapped().readable);
        });
}

/// To those who do not wait for it to be durable.
void FileFetcher::Impl::give_readable(FileId file) {
    Fetch& fetch = fetches.at(file);
    const auto durable = std::stable_partition(fetch.waiting.begin(), fetch.waiting.end(),
                                               [](const Waiter& each) { return !each.durable; });
    std::vector<Waiter> served(std::make_move_iterator(fetch.waiting.begin()),
                               std::make_move_iterator(durable));
    fetch.waiting.erase(fetch.waiting.begin(), durable);
    serve(std::move(served), fetch.readable);
}

/// `readable` may be gone once the first is served.
void FileFetcher::Impl::serve(std::vector<Waiter> served, const OwnedFd& readable) {
    std::vector<OwnedFd> copies;
    for (std::size_t i = 0; i < served.size(); ++i) {
        copies.emplace_back(::fcntl(readable.get(), F_DUPFD_CLOEXEC, 0));
    }
    for (std::size_t i = 0; i < served.size(); ++i) {
        if (copies[i].valid()) {
            served[i].done(std::move(copies[i]));
        } else {
            served[i].done(fail(Code::kOverloaded, "no descriptor for a content"));
        }
    }
}

void FileFetcher::Impl::give_up(Ticket ticket, const Error& error) {
    Fetch* fetch = find(ticket);
    if (fetch == nullptr) return;
    const std::vector<Waiter> waiting = std::move(fetch->waiting);
    fetches.erase(ticket.file);
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
