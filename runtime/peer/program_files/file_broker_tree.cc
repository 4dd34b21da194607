// What a broker shows: listings once and for all, contents of the version that the listing shows.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "runtime/peer/file_view.h"
#include "runtime/peer/program_files/file_broker_impl.h"
#include "runtime/peer/program_files/pool_job.h"

namespace ppdsm {

namespace {

constexpr std::size_t kMostDecodedListings = 64;

using Listing = std::shared_ptr<const DirectoryListing>;

Result<Listing> read_listing(const OwnedFd& file) {
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) return fail_errno("look at a listing");
    Bytes bytes(static_cast<std::size_t>(info.st_size));
    PPDSM_TRY(read_exactly_at(file, bytes, 0));
    PPDSM_ASSIGN(DirectoryListing listing, decode_listing(bytes));
    return std::make_shared<const DirectoryListing>(std::move(listing));
}

FileVersion version_of(const FileAttributes& attributes) {
    return {attributes.size_bytes, attributes.mtime_ns, attributes.ctime_ns};
}

/// This host's own file of that path, when it is that content.
Result<std::pair<OwnedFd, FileLayout>> open_own_file(const std::string& path, FileId wanted,
                                                     std::uint64_t size_bytes) {
    PPDSM_ASSIGN(OwnedFd file, open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) return fail_errno(path);
    if (!S_ISREG(info.st_mode) || static_cast<std::uint64_t>(info.st_size) != size_bytes) {
        return fail(Code::kNotFound, path + " is another here");
    }
    PPDSM_ASSIGN(FileLayout layout, FileLayout::of(file));
    if (layout.id() != wanted) return fail(Code::kNotFound, path + " is another here");
    return std::pair{std::move(file), std::move(layout)};
}

}  // namespace

std::string parent_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == 0 ? "/" : path.substr(0, slash);
}

const PlannedRoot* FileBroker::Impl::root_of(const std::string& path) const {
    const PlannedRoot* innermost = nullptr;
    if (!is_clean_path(path)) return nullptr;
    for (const PlannedRoot& root : setup.plan.roots) {
        if (!is_within(path, root.target)) continue;
        if (innermost == nullptr || root.target.size() > innermost->target.size()) {
            innermost = &root;
        }
    }
    return innermost;
}

// ---- Listings. Once shown, a path's listing is the catalog's.

void FileBroker::Impl::need_listing(const std::string& path, bool durable, GiveFile done) {
    if (root_of(path) == nullptr) return done(fail(Code::kNotFound, path + " is not shown"));
    const std::optional<FileId> known = catalog.listing(path);
    if (!known) return ask_listing(path, durable, std::move(done));
    fetcher.fetch(*known, {}, durable,
                  [weak = weak_from_this(), path, known = *known, durable,
                   done = std::move(done)](Result<OwnedFd> file) {
                      const auto self = weak.lock();
                      if (file || self == nullptr) return done(std::move(file));
                      self->list_again(path, known, durable, done);
                  });
}

void FileBroker::Impl::ask_listing(const std::string& path, bool durable, GiveFile done) {
    std::optional<FileId> known = cache.known_listing(setup.owner, path);
    if (known && !cache.holds(*known)) known.reset();
    // It must still be there when the owner says that nothing has changed.
    if (known) pin->add(*known);
    source.list({ListQuery{path, known}},
                [weak = weak_from_this(), path, durable, done = std::move(done)](auto answers) {
                    const auto self = weak.lock();
                    if (self == nullptr) return;
                    if (answers.size() != 1)
                        return done(fail(Code::kCorrupt, "no answer about " + path));
                    if (!answers[0]) return done(fail(answers[0].error()));
                    self->take_listing(path, *std::move(answers[0]), durable, done);
                });
}

/// The cache has lost it and no holder has it: the owner may still show the same.
void FileBroker::Impl::list_again(const std::string& path, FileId listing, bool durable,
                                  GiveFile done) {
    source.list({ListQuery{path, {}}}, [weak = weak_from_this(), path, listing, durable,
                                        done = std::move(done)](auto answers) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        if (answers.size() != 1) return done(fail(Code::kCorrupt, "no answer about " + path));
        if (!answers[0]) return done(fail(answers[0].error()));
        if (answers[0]->listing != listing) {
            return done(
                fail(Code::kNotFound, path + " changed at home, and nobody has it as it was"));
        }
        self->take_listing(path, *std::move(answers[0]), durable, done);
    });
}

void FileBroker::Impl::take_listing(const std::string& path, ListAnswer answer, bool durable,
                                    GiveFile done) {
    const FileId listing = answer.listing;
    auto show = [weak = weak_from_this(), path, listing, durable,
                 done = std::move(done)](Result<OwnedFd> file) {
        if (const auto self = weak.lock()) {
            self->show_listing(path, listing, std::move(file), durable, done);
        }
    };
    // Without bytes it is here, or too long for the answer.
    if (answer.bytes.empty()) return fetcher.fetch(listing, {}, durable, std::move(show));
    FileLayout layout = FileLayout::of(answer.bytes);
    if (layout.id() != listing || !decode_listing(answer.bytes)) {
        return show(fail(Code::kCorrupt, "the listing of " + path + " is not what its name says"));
    }
    fetcher.fetch_from(std::move(layout), fetcher.from_memory(std::move(answer.bytes)), durable,
                       std::move(show));
}

void FileBroker::Impl::show_listing(const std::string& path, FileId listing, Result<OwnedFd> file,
                                    bool durable, const GiveFile& done) {
    if (!file) return done(std::move(file));
    const std::optional<FileId> shown = catalog.listing(path);
    // Another request for the same was faster, and the directory has changed in between.
    if (shown && *shown != listing) return need_listing(path, durable, done);
    pin->add(listing);
    cache.remember_listing(setup.owner, path, listing);
    if (Status added = catalog.add_listing(path, listing); !added) return done(fail(added.error()));
    done(std::move(file));
}

void FileBroker::Impl::need_decoded(const std::string& path, bool durable,
                                    std::function<void(Result<Listing>)> done) {
    const auto known = std::find_if(decoded.begin(), decoded.end(),
                                    [&](const auto& entry) { return entry.first == path; });
    if (known != decoded.end() && !durable) {
        decoded.splice(decoded.begin(), decoded, known);
        return done(known->second);
    }
    need_listing(path, durable,
                 [weak = weak_from_this(), path, done = std::move(done)](Result<OwnedFd> file) {
                     const auto self = weak.lock();
                     if (self == nullptr) return;
                     if (!file) return done(fail(file.error()));
                     run_in_pool(
                         self->loop, [file = *std::move(file)] { return read_listing(file); },
                         [weak, path, done](Result<Listing> listing) {
                             const auto still = weak.lock();
                             if (still == nullptr) return;
                             if (listing) still->remember_decoded(path, *listing);
                             done(std::move(listing));
                         });
                 });
}

void FileBroker::Impl::remember_decoded(const std::string& path, const Listing& listing) {
    decoded.remove_if([&](const auto& entry) { return entry.first == path; });
    decoded.emplace_front(path, listing);
    if (decoded.size() > kMostDecodedListings) decoded.pop_back();
}

// ---- Contents: of the version that the listing shows.

void FileBroker::Impl::need_content(const std::string& path, bool durable, GiveFile done) {
    const PlannedRoot* root = root_of(path);
    if (root == nullptr) return done(fail(Code::kNotFound, path + " is not shown"));
    const bool is_root = root->target == path;
    const std::string listed_at = is_root ? path : parent_of(path);
    need_decoded(
        listed_at, false,
        [weak = weak_from_this(), path, root, durable, is_root,
         done = std::move(done)](const Result<Listing>& listing) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            if (!listing) return done(fail(listing.error()));
            const ListedEntry* entry =
                is_root ? nullptr : (*listing)->find(path.substr(path.rfind('/') + 1));
            if (!is_root && entry == nullptr)
                return done(fail(Code::kNotFound, path + " is not there"));
            const FileAttributes& attributes = is_root ? (*listing)->self : entry->attributes;
            if (!S_ISREG(attributes.mode)) return done(fail(Code::kInvalid, path + " is no file"));
            self->find_content({path, root, durable, done, version_of(attributes), {}, {}});
        });
}

void FileBroker::Impl::find_content(Wanted wanted) {
    if (const std::optional<FileId> shown = catalog.content(wanted.path)) {
        wanted.file = *shown;
        return get_content(std::move(wanted));
    }
    const std::optional<FileId> known =
        cache.known_content(setup.owner, wanted.path, wanted.version);
    if (known && cache.holds(*known)) {
        wanted.file = *known;
        return fetch_content(std::move(wanted));
    }
    ask_content(std::move(wanted));
}

void FileBroker::Impl::ask_content(Wanted wanted) {
    const std::string path = wanted.path;
    const FileVersion version = wanted.version;
    source.content(path, version,
                   [weak = weak_from_this(),
                    wanted = std::move(wanted)](Result<ContentAnswer> answer) mutable {
                       const auto self = weak.lock();
                       if (self == nullptr) return;
                       if (!answer) return wanted.done(fail(answer.error()));
                       const FileId file = answer->layout.id();
                       if (const auto shown = self->catalog.content(wanted.path);
                           shown && *shown != file) {
                           return wanted.done(
                               fail(Code::kNotFound,
                                    wanted.path + " changed at home, and nobody has it as it was"));
                       }
                       wanted.file = file;
                       wanted.layout = std::move(answer->layout);
                       wanted.is_settled = answer->is_settled;
                       self->get_content(std::move(wanted));
                   });
}

void FileBroker::Impl::get_content(Wanted wanted) {
    const bool may_be_own = setup.use_own_system_files && wanted.root->is_system &&
                            wanted.root->source == wanted.root->target;
    if (may_be_own && !cache.holds(wanted.file)) return copy_own_file(std::move(wanted));
    fetch_content(std::move(wanted));
}

void FileBroker::Impl::copy_own_file(Wanted wanted) {
    auto work = [path = wanted.path, file = wanted.file, size_bytes = wanted.version.size_bytes] {
        return open_own_file(path, file, size_bytes);
    };
    run_in_pool(loop, std::move(work),
                [weak = weak_from_this(), wanted = std::move(wanted)](auto own) mutable {
                    const auto self = weak.lock();
                    if (self == nullptr) return;
                    if (!own) return self->fetch_content(std::move(wanted));
                    FileLayout layout = own->second;
                    const bool durable = wanted.durable;
                    auto pieces =
                        self->fetcher.from_file(std::move(own->first), std::move(own->second));
                    auto then = [weak, wanted = std::move(wanted)](Result<OwnedFd> file) mutable {
                        const auto still = weak.lock();
                        if (still == nullptr) return;
                        // It has changed under our hands: then from the owner after all.
                        if (!file) return still->fetch_content(std::move(wanted));
                        still->show_content(wanted, std::move(file));
                    };
                    self->fetcher.fetch_from(std::move(layout), std::move(pieces), durable,
                                             std::move(then));
                });
}

void FileBroker::Impl::fetch_content(Wanted wanted) {
    const FileId file = wanted.file;
    const bool durable = wanted.durable;
    std::optional<FileLayout> layout = wanted.layout;
    fetcher.fetch(file, std::move(layout), durable,
                  [weak = weak_from_this(), wanted = std::move(wanted)](Result<OwnedFd> got) {
                      const auto self = weak.lock();
                      if (self == nullptr) return;
                      // Known by name only, and no holder has it: the owner may still.
                      if (!got && !wanted.layout) return self->ask_content(wanted);
                      self->show_content(wanted, std::move(got));
                  });
}

void FileBroker::Impl::show_content(const Wanted& wanted, Result<OwnedFd> file) {
    if (!file) return wanted.done(std::move(file));
    pin->add(wanted.file);
    if (wanted.is_settled) {
        cache.remember_content(setup.owner, wanted.path, wanted.version, wanted.file);
    } else if (wanted.layout) {
        unsettled.insert(wanted.path);
    }
    const Status added = catalog.add_content(wanted.path, wanted.file, wanted.version.size_bytes);
    if (!added) return wanted.done(fail(added.error()));
    wanted.done(std::move(file));
}

}  // namespace ppdsm
