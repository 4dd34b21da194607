#include "runtime/peer/mesh/mesh_files.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/peer/mesh/file_messages.h"
#include "runtime/peer/mesh/held_files.h"
#include "runtime/peer/program_files/pool_job.h"

namespace ppdsm {

namespace {

/// Whole lines of a catalog from there on.
Result<Bytes> read_slice(const std::filesystem::path& path, std::uint64_t offset_bytes) {
    PPDSM_ASSIGN(const OwnedFd file, open_file(path, O_RDONLY));
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) return fail_errno(path.string());
    const auto size_bytes = static_cast<std::uint64_t>(info.st_size);
    if (offset_bytes > size_bytes) return fail(Code::kInvalid, "the catalog is not that long");
    Bytes slice(std::min<std::uint64_t>(size_bytes - offset_bytes, kMostSliceBytes));
    PPDSM_TRY(read_exactly_at(file, slice, offset_bytes));
    while (!slice.empty() && slice.back() != '\n') slice.pop_back();
    return slice;
}

}  // namespace

struct MeshFiles::Impl : std::enable_shared_from_this<Impl> {
    struct Shown {
        std::unique_ptr<FileOwner> owner;
        std::function<bool(const PeerId&)> involves;
    };

    Impl(Loop& its_loop, Mesh& its_mesh, Warrants& its_warrants, const Home& its_home,
         std::shared_ptr<spdlog::logger> its_log)
        : loop(its_loop),
          mesh(its_mesh),
          warrants(its_warrants),
          home(its_home),
          log(std::move(its_log)) {}

    void listen();
    void answer(const PeerId& to, const Frame& request, MessageType type, const Bytes& payload) {
        (void)mesh.send(to, Priority::kBulk, type, request.correlation, payload);
    }
    Result<FileOwner*> owner_for(const PeerId& asker, const std::string& vc);
    [[nodiscard]] bool knows(const std::string& vc) const {
        return shown.contains(vc) || held.contains(vc) || hosting.contains(vc);
    }
    Status on_list(const PeerId& from, const Frame& frame);
    Status on_content(const PeerId& from, const Frame& frame);
    Status on_piece(const PeerId& from, const Frame& frame);
    Status on_hold(const PeerId& from, const Frame& frame);
    Status on_get_catalog(const PeerId& from, const Frame& frame);
    void hold_those_of_earlier_lives();
    Result<HeldFiles*> hold(const std::string& vc, const PeerId& owner);

    std::shared_ptr<MeshFileSource> source(const std::string& vc, const PeerId& owner);
    void get_catalog(const std::string& vc, std::uint64_t catalog_bytes,
                     std::vector<PeerId> sources, const std::function<void(const Status&)>& done);
    void get_slices(const std::string& vc, const PeerId& from, std::uint64_t catalog_bytes,
                    std::shared_ptr<FileCatalog> into, std::function<void(const Status&)> done);

    Loop& loop;
    Mesh& mesh;
    Warrants& warrants;
    Home home;
    std::shared_ptr<spdlog::logger> log;
    std::unique_ptr<FileCache> cache;
    std::shared_ptr<ContentHashes> hashes;
    std::map<std::string, Shown> shown;
    std::map<std::string, std::unique_ptr<HeldFiles>> held;
    std::set<std::string> hosting;
    std::vector<std::weak_ptr<MeshFileSource>> sources_in_use;
};

Result<std::unique_ptr<MeshFiles>> MeshFiles::open(Loop& loop, Mesh& mesh, Warrants& warrants,
                                                   const Home& home,
                                                   std::shared_ptr<spdlog::logger> log) {
    auto impl = std::make_shared<Impl>(loop, mesh, warrants, home, std::move(log));
    FileCache::Options options;
    options.directory = home.cache() / "files";
    PPDSM_ASSIGN(impl->cache, FileCache::open(loop, std::move(options)));
    PPDSM_ASSIGN(impl->hashes, ContentHashes::open(home.cache() / "hashes"));
    impl->hold_those_of_earlier_lives();
    impl->listen();
    return std::unique_ptr<MeshFiles>(new MeshFiles(std::move(impl)));
}

MeshFiles::MeshFiles(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
MeshFiles::~MeshFiles() = default;

void MeshFiles::Impl::listen() {
    const auto take = [this](MessageType type,
                             Status (Impl::*method)(const PeerId&, const Frame&)) {
        mesh.handle(type,
                    [weak = weak_from_this(), method](const PeerId& from, const Frame& frame) {
                        const auto self = weak.lock();
                        return self == nullptr ? Status() : (*self.*method)(from, frame);
                    });
    };
    take(MessageType::kListDirectory, &Impl::on_list);
    take(MessageType::kGetContent, &Impl::on_content);
    take(MessageType::kGetPiece, &Impl::on_piece);
    take(MessageType::kHoldFiles, &Impl::on_hold);
    take(MessageType::kGetCatalog, &Impl::on_get_catalog);
}

// This peer's own files.

Status MeshFiles::show(const std::string& vc, const ViewPlan& plan,
                       std::function<bool(const PeerId&)> involves) {
    PPDSM_ASSIGN(auto owner, FileOwner::open(impl_->loop, plan, impl_->hashes));
    impl_->shown.insert_or_assign(vc, Impl::Shown{std::move(owner), std::move(involves)});
    return {};
}

void MeshFiles::hide(const std::string& vc) { impl_->shown.erase(vc); }

Result<FileOwner*> MeshFiles::Impl::owner_for(const PeerId& asker, const std::string& vc) {
    const auto found = shown.find(vc);
    if (found == shown.end()) {
        return fail(Code::kNotFound, mesh.describe(mesh.self().id) + " has not deployed " + vc);
    }
    if (asker != mesh.self().id && !found->second.involves(asker)) {
        log->warn("vc={} its files were refused to {}, which has nothing to do with it", vc,
                  mesh.describe(asker));
        return fail(Code::kUnsupported,
                    "its files are not for " + mesh.describe(asker) + ", which does not host it");
    }
    return found->second.owner.get();
}

Status MeshFiles::Impl::on_list(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(ListRequest request, decode_list_request(frame.payload));
    const Result<FileOwner*> owner = owner_for(from, request.vc);
    if (!owner) {
        answer(from, frame, MessageType::kDirectory, encode_list_reply(fail(owner.error())));
        return {};
    }
    (*owner)->list(std::move(request.queries),
                   [weak = weak_from_this(), from, correlation = frame.correlation](auto answers) {
                       const auto self = weak.lock();
                       if (self == nullptr) return;
                       (void)self->mesh.send(from, Priority::kBulk, MessageType::kDirectory,
                                             correlation, encode_list_reply(std::move(answers)));
                   });
    return {};
}

Status MeshFiles::Impl::on_content(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(ContentRequest request, decode_content_request(frame.payload));
    auto reply = [weak = weak_from_this(), from,
                  correlation = frame.correlation](const ContentReply& content) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        (void)self->mesh.send(from, Priority::kBulk, MessageType::kContent, correlation,
                              encode_content_reply(content));
    };
    auto reply_layout = [reply](Result<FileLayout> layout) {
        if (!layout) return reply(fail(layout.error()));
        reply(ContentAnswer{*std::move(layout), true});
    };
    if (request.file && cache->holds(*request.file) && knows(request.vc)) {
        cache->layout(*request.file, std::move(reply_layout));
        return {};
    }
    const Result<FileOwner*> owner = owner_for(from, request.vc);
    if (!owner) {
        reply(fail(owner.error()));
    } else if (request.file) {
        (*owner)->layout(*request.file, std::move(reply_layout));
    } else {
        (*owner)->content(std::move(request.path), request.version, std::move(reply));
    }
    return {};
}

Status MeshFiles::Impl::on_piece(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(const PieceRequest request, decode_piece_request(frame.payload));
    auto reply = [weak = weak_from_this(), from,
                  correlation = frame.correlation](const Result<Bytes>& piece) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        (void)self->mesh.send(from, Priority::kBulk, MessageType::kPiece, correlation,
                              encode_piece_reply(piece));
    };
    if (cache->holds(request.file) && knows(request.vc)) {
        cache->piece(request.file, request.index, std::move(reply));
        return {};
    }
    const Result<FileOwner*> owner = owner_for(from, request.vc);
    if (!owner) {
        reply(fail(owner.error()));
    } else {
        (*owner)->piece(request.file, request.index, std::move(reply));
    }
    return {};
}

// What this peer keeps as a replica.

/// The cache must not drop it before the next time that the worker asks.
void MeshFiles::Impl::hold_those_of_earlier_lives() {
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(home.directory() / "hosted", error)) {
        const std::string vc = entry.path().filename();
        if (!is_vc_id(vc) || !std::filesystem::exists(home.hosted(vc).catalog(), error)) continue;
        if (const auto kept = hold(vc, mesh.self().id); !kept) {
            log->warn("vc={} {}", vc, kept.error().message());
        }
    }
}

Result<HeldFiles*> MeshFiles::Impl::hold(const std::string& vc, const PeerId& owner) {
    auto& files = held[vc];
    if (!files) {
        Result<std::unique_ptr<HeldFiles>> opened =
            HeldFiles::open(loop, *cache, source(vc, owner), home.hosted(vc));
        if (!opened) {
            held.erase(vc);
            return fail(opened.error());
        }
        files = *std::move(opened);
    }
    return files.get();
}

Status MeshFiles::Impl::on_hold(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(HoldRequest request, decode_hold_request(frame.payload));
    auto reply = [weak = weak_from_this(), from,
                  correlation = frame.correlation](const HoldReply& holds) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        (void)self->mesh.send(from, Priority::kBulk, MessageType::kFilesHeld, correlation,
                              encode_hold_reply(holds));
    };
    if (!is_vc_id(request.vc)) return fail(Code::kCorrupt, "files of no virtual computer");
    if (const Status allowed = warrants.may_hold_for(request.vc, from); !allowed) {
        reply(fail(allowed.error()));
        return {};
    }
    if (hosting.contains(request.vc)) {
        reply(fail(Code::kUnavailable, request.vc + " runs here"));
        return {};
    }
    const Result<HeldFiles*> files = hold(request.vc, from);
    if (!files) {
        reply(fail(files.error()));
        return {};
    }
    // What lies at home need not come back over the link.
    if (shown.contains(request.vc)) {
        request.holders.insert(request.holders.begin(), mesh.self().id);
    }
    request.holders.push_back(from);
    (*files)->add(std::move(request), std::move(reply));
    return {};
}

Status MeshFiles::Impl::on_get_catalog(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(const CatalogRequest request, decode_catalog_request(frame.payload));
    if (!is_vc_id(request.vc)) return fail(Code::kCorrupt, "the catalog of no virtual computer");
    if (const Status allowed = warrants.may_use(request.vc, from); !allowed) {
        answer(from, frame, MessageType::kCatalog, encode_catalog_reply(fail(allowed.error())));
        return {};
    }
    run_in_pool(
        loop,
        [path = home.hosted(request.vc).catalog(), offset_bytes = request.offset_bytes] {
            return read_slice(path, offset_bytes);
        },
        [weak = weak_from_this(), from, correlation = frame.correlation](const Result<Bytes>& got) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            (void)self->mesh.send(from, Priority::kBulk, MessageType::kCatalog, correlation,
                                  encode_catalog_reply(got));
        });
    return {};
}

// What programs that run here are shown.

FileCache& MeshFiles::cache() { return *impl_->cache; }
Warrants& MeshFiles::warrants() { return impl_->warrants; }

std::shared_ptr<MeshFileSource> MeshFiles::source(const std::string& vc, const PeerId& owner) {
    return impl_->source(vc, owner);
}

std::shared_ptr<MeshFileSource> MeshFiles::Impl::source(const std::string& vc,
                                                        const PeerId& owner) {
    auto made = std::make_shared<MeshFileSource>(loop, mesh, vc, owner);
    std::erase_if(sources_in_use, [](const auto& each) { return each.expired(); });
    sources_in_use.push_back(made);
    return made;
}

void MeshFiles::on_linked(const PeerId& peer) {
    for (const auto& each : impl_->sources_in_use) {
        if (const auto source = each.lock()) source->on_linked(peer);
    }
}

void MeshFiles::begin_hosting(const std::string& vc, std::uint64_t catalog_bytes,
                              const std::vector<PeerId>& sources,
                              std::function<void(const Status&)> done) {
    impl_->hosting.insert(vc);
    impl_->held.erase(vc);
    struct stat info{};
    const auto path = impl_->home.hosted(vc).catalog();
    const bool is_here = ::stat(path.c_str(), &info) == 0 &&
                         static_cast<std::uint64_t>(info.st_size) >= catalog_bytes;
    if (catalog_bytes == 0) ::unlink(path.c_str());
    if (catalog_bytes == 0 || is_here) {
        return impl_->loop.post([done = std::move(done)] { done({}); });
    }
    impl_->get_catalog(vc, catalog_bytes, sources, done);
}

/// From the first that has it.
void MeshFiles::Impl::get_catalog(const std::string& vc, std::uint64_t catalog_bytes,
                                  std::vector<PeerId> sources,
                                  const std::function<void(const Status&)>& done) {
    std::erase(sources, mesh.self().id);
    if (sources.empty()) {
        return done(fail(Code::kUnavailable,
                         "no peer that can be reached knows what " + vc + " was shown"));
    }
    const PeerId from = sources.front();
    sources.erase(sources.begin());
    const auto path = home.hosted(vc).catalog();
    Status made = make_directories(path.parent_path(), 0700);
    ::unlink(path.c_str());
    Result<FileCatalog> fresh = made ? FileCatalog::open(path) : fail(made.error());
    if (!fresh) return done(fail(fresh.error()));
    get_slices(
        vc, from, catalog_bytes, std::make_shared<FileCatalog>(*std::move(fresh)),
        [weak = weak_from_this(), vc, catalog_bytes, sources, done](const Status& got) mutable {
            const auto self = weak.lock();
            if (self == nullptr) return;
            if (got) return done({});
            self->get_catalog(vc, catalog_bytes, std::move(sources), done);
        });
}

void MeshFiles::Impl::get_slices(const std::string& vc, const PeerId& from,
                                 std::uint64_t catalog_bytes, std::shared_ptr<FileCatalog> into,
                                 std::function<void(const Status&)> done) {
    if (into->size_bytes() >= catalog_bytes) return done(into->sync());
    warrants.show(vc, from);
    mesh.request(from, Priority::kBulk, MessageType::kGetCatalog,
                 encode_catalog_request({vc, into->size_bytes()}),
                 [weak = weak_from_this(), vc, from, catalog_bytes, into = std::move(into),
                  done = std::move(done)](const Result<Frame>& frame) mutable {
                     const auto self = weak.lock();
                     if (self == nullptr) return;
                     Result<Bytes> slice =
                         frame ? decode_catalog_reply(frame->payload) : fail(frame.error());
                     if (!slice) return done(fail(slice.error()));
                     const std::uint64_t missing_bytes = catalog_bytes - into->size_bytes();
                     if (slice->size() > missing_bytes) slice->resize(missing_bytes);
                     if (slice->empty()) return done(fail(Code::kNotFound, "it has less of it"));
                     const Status added = into->append_bytes(into->size_bytes(), *slice);
                     if (!added) return done(added);
                     self->get_slices(vc, from, catalog_bytes, std::move(into), std::move(done));
                 });
}

void MeshFiles::end_hosting(const std::string& vc) {
    impl_->hosting.erase(vc);
    std::error_code absent;
    if (!std::filesystem::exists(impl_->home.hosted(vc).catalog(), absent)) return;
    if (const auto kept = impl_->hold(vc, impl_->mesh.self().id); !kept) {
        impl_->log->warn("vc={} {}", vc, kept.error().message());
    }
}

void MeshFiles::forget(const std::string& vc) {
    impl_->held.erase(vc);
    impl_->hosting.erase(vc);
}

}  // namespace ppdsm
