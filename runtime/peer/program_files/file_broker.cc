#include "runtime/peer/program_files/file_broker.h"

#include "runtime/peer/program_files/exposure_walk.h"
#include "runtime/peer/program_files/file_broker_impl.h"
#include "runtime/peer/program_files/pool_job.h"

namespace ppdsm {

// ---- The channel.

void FileBroker::Impl::attach(OwnedFd socket) {
    hang_up();
    channel = std::make_shared<Channel>(Channel{FileChannel(std::move(socket)), {}});
    channel->poller = std::make_unique<Poller>(
        loop, channel->channel.fd().get(),
        [weak = weak_from_this(), from = std::weak_ptr(channel)](int events) {
            const auto self = weak.lock();
            const auto known = from.lock();
            if (self != nullptr && known != nullptr) self->on_channel(known, events);
        });
    watch(channel);
    get_ready();
}

void FileBroker::Impl::hang_up() {
    if (channel != nullptr) keep_habit();
    channel.reset();
}

void FileBroker::Impl::on_channel(const std::shared_ptr<Channel>& from, int events) {
    if ((events & UV_WRITABLE) != 0 && !from->channel.flush()) return hang_up();
    if ((events & (UV_READABLE | UV_DISCONNECT)) != 0) {
        for (;;) {
            Result<std::optional<FileRequest>> request = from->channel.receive_request();
            if (!request) return hang_up();  // That incarnation is over.
            if (!*request) break;
            answer(from, *std::move(*request));
        }
    }
    if (channel == from) watch(from);
}

void FileBroker::Impl::answer(const std::shared_ptr<Channel>& from, FileRequest request) {
    if (request.id == kUnasked) return note_use(request.kind, request.path);
    GiveFile done = [weak = weak_from_this(), to = std::weak_ptr(from), id = request.id,
                     kind = request.kind, path = request.path](Result<OwnedFd> file) {
        const auto self = weak.lock();
        const auto known = to.lock();
        if (self == nullptr || known == nullptr) return;
        if (file) self->note_use(kind, path);
        self->reply(known, id, std::move(file));
    };
    if (request.kind == FileRequest::Kind::kList) {
        need_listing(request.path, false, std::move(done));
    } else {
        need_content(request.path, false, std::move(done));
    }
}

void FileBroker::Impl::reply(const std::shared_ptr<Channel>& to, std::uint64_t id,
                             Result<OwnedFd> file) {
    FileReply reply;
    reply.id = id;
    if (file) {
        reply.file = *std::move(file);
    } else {
        reply.reason = file.error().message();
    }
    if (!to->channel.send(std::move(reply))) return;  // Reading tells that it is gone.
    if (channel == to) watch(to);
}

// ---- The broker.

Result<std::unique_ptr<FileBroker>> FileBroker::open(Loop& loop, FileCache& cache,
                                                     FileSource& source, Setup setup) {
    PPDSM_ASSIGN(FileCatalog catalog, FileCatalog::open(setup.catalog));
    return std::unique_ptr<FileBroker>(new FileBroker(
        std::make_shared<Impl>(loop, cache, source, std::move(setup), std::move(catalog))));
}

FileBroker::FileBroker(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileBroker::~FileBroker() { impl_->hang_up(); }

void FileBroker::attach(OwnedFd channel) { impl_->attach(std::move(channel)); }
const FileCatalog& FileBroker::catalog() const { return impl_->catalog; }

void FileBroker::complete_exposures(std::function<void(const Progress&)> progress,
                                    std::function<void(Result<Exposures>)> done) {
    auto walk = std::make_shared<ExposureWalk>(
        impl_->setup.plan,
        [weak = std::weak_ptr(impl_)](const std::string& path, auto then) {
            if (const auto impl = weak.lock()) impl->need_decoded(path, true, std::move(then));
        },
        [weak = std::weak_ptr(impl_)](const std::string& path, auto then) {
            if (const auto impl = weak.lock()) impl->need_content(path, true, std::move(then));
        });
    walk->start(std::move(progress), std::move(done));
}

void FileBroker::settle(std::function<void(Status)> done) {
    impl_->fetcher.settle([weak = std::weak_ptr(impl_), done = std::move(done)](Status kept) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        if (!kept) return done(std::move(kept));
        run_in_pool(self->loop, [self] { return self->catalog.sync(); }, done);
    });
}

}  // namespace ppdsm
