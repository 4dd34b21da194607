#include "runtime/peer/mesh/held_files.h"

#include <unistd.h>

#include <algorithm>

#include "runtime/peer/program_files/pool_job.h"

namespace ppdsm {

struct HeldFiles::Impl : std::enable_shared_from_this<Impl> {
    Impl(Loop& its_loop, FileCache& cache, std::shared_ptr<MeshFileSource> its_source,
         FileCatalog its_catalog, std::filesystem::path its_path)
        : loop(its_loop),
          source(std::move(its_source)),
          catalog(std::make_shared<FileCatalog>(std::move(its_catalog))),
          path(std::move(its_path)),
          fetcher(loop, cache, *source),
          pin(cache.pin()) {
        for (const FileId file : catalog->contents()) pin->add(file);
    }

    [[nodiscard]] Result<std::uint64_t> take(const HoldRequest& request);
    Status begin_afresh();
    void complete(std::uint64_t size_bytes, std::function<void(const HoldReply&)> done);

    Loop& loop;
    std::shared_ptr<MeshFileSource> source;
    std::shared_ptr<FileCatalog> catalog;  ///< Shared with the pool, which syncs it.
    std::filesystem::path path;
    FileFetcher fetcher;
    std::unique_ptr<FileCache::Pin> pin;
    std::set<FileId> durable;
};

Result<std::unique_ptr<HeldFiles>> HeldFiles::open(Loop& loop, FileCache& cache,
                                                   std::shared_ptr<MeshFileSource> source,
                                                   const VcPaths& paths) {
    PPDSM_TRY(make_directories(paths.directory, 0700));
    PPDSM_ASSIGN(FileCatalog catalog, FileCatalog::open(paths.catalog()));
    return std::unique_ptr<HeldFiles>(new HeldFiles(std::make_shared<Impl>(
        loop, cache, std::move(source), std::move(catalog), paths.catalog())));
}

HeldFiles::HeldFiles(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
HeldFiles::~HeldFiles() = default;

Status HeldFiles::Impl::begin_afresh() {
    if (::unlink(path.c_str()) != 0) return fail_errno("drop " + path.string());
    PPDSM_ASSIGN(FileCatalog fresh, FileCatalog::open(path));
    catalog = std::make_shared<FileCatalog>(std::move(fresh));
    return {};
}

/// How much of the worker's catalog is here then.
Result<std::uint64_t> HeldFiles::Impl::take(const HoldRequest& request) {
    const std::uint64_t have_bytes = catalog->size_bytes();
    if (request.offset_bytes > have_bytes) return have_bytes;
    PPDSM_ASSIGN(const Bytes here, catalog->bytes_from(request.offset_bytes));
    const std::size_t common = std::min(here.size(), request.catalog.size());
    if (!std::equal(here.begin(), here.begin() + static_cast<std::ptrdiff_t>(common),
                    request.catalog.begin())) {
        // Of an incarnation that was given up, from where on it was another.
        PPDSM_TRY(begin_afresh());
        if (request.offset_bytes > 0) return 0;
        PPDSM_TRY(catalog->append_bytes(0, request.catalog));
        return catalog->size_bytes();
    }
    const ByteView rest = ByteView(request.catalog).subspan(common);
    PPDSM_TRY(catalog->append_bytes(have_bytes, rest));
    return request.offset_bytes + request.catalog.size();
}

void HeldFiles::add(HoldRequest request, std::function<void(const HoldReply&)> done) {
    impl_->source->set_holders(request.holders);
    const Result<std::uint64_t> taken = impl_->take(request);
    if (!taken || *taken < request.offset_bytes + request.catalog.size()) return done(taken);
    impl_->complete(*taken, std::move(done));
}

void HeldFiles::Impl::complete(std::uint64_t size_bytes,
                               std::function<void(const HoldReply&)> done) {
    std::vector<FileId> missing;
    for (const FileId file : catalog->contents()) {
        if (durable.contains(file)) continue;
        pin->add(file);
        missing.push_back(file);
    }
    fetcher.fetch_all(missing, [weak = weak_from_this(), missing, size_bytes,
                                done = std::move(done)](const Status& fetched) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        if (!fetched) return done(fail(fetched.error()));
        self->durable.insert(missing.begin(), missing.end());
        run_in_pool(
            self->loop, [catalog = self->catalog] { return catalog->sync(); },
            [size_bytes, done](const Status& synced) {
                if (!synced) return done(fail(synced.error()));
                done(size_bytes);
            });
    });
}

}  // namespace ppdsm
