#include "criu-glue/store/chunk_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include "criu-glue/store/chunk_store_impl.h"
#include "dsm/base/check.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPackPrefix = "pack-";
constexpr std::string_view kPackSuffix = ".ppk";
constexpr std::size_t kSequenceDigits = 16;

std::string pack_file_name(std::uint64_t sequence) {
    std::string digits(kSequenceDigits, '0');
    for (std::size_t i = kSequenceDigits; i > 0; --i, sequence >>= 4U) {
        digits[i - 1] = "0123456789abcdef"[sequence & 15U];
    }
    return std::string(kPackPrefix) + digits + std::string(kPackSuffix);
}

/// Nothing for a name that is not a pack's.
std::optional<std::uint64_t> pack_sequence(const std::string& name) {
    if (name.size() != kPackPrefix.size() + kSequenceDigits + kPackSuffix.size() ||
        !name.starts_with(kPackPrefix)) {
        return std::nullopt;
    }
    std::uint64_t sequence = 0;
    const char* const first = name.data() + kPackPrefix.size();
    const auto parsed = std::from_chars(first, first + kSequenceDigits, sequence, 16);
    // Comparing with the one right spelling refuses capitals and trailing text.
    if (parsed.ec != std::errc() || pack_file_name(sequence) != name) return std::nullopt;
    return sequence;
}

}  // namespace

ChunkStore::ChunkStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChunkStore::~ChunkStore() = default;

Result<std::unique_ptr<ChunkStore>> ChunkStore::open(const fs::path& directory, Mode mode) {
    if (mode == Mode::kWrite) {
        PPDSM_TRY(make_directories(directory, 0700));
        PPDSM_TRY(remove_stale_pending(directory));
    }
    auto impl = std::make_unique<Impl>();
    impl->directory = directory;
    impl->mode = mode;
    PPDSM_TRY(impl->load_packs());
    return std::unique_ptr<ChunkStore>(new ChunkStore(std::move(impl)));
}

Result<std::vector<std::uint64_t>> ChunkStore::Impl::list_packs() {
    std::vector<std::uint64_t> sequences;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error)) {
        const auto sequence = pack_sequence(entry->path().filename().string());
        if (!sequence) continue;
        next_sequence = std::max(next_sequence, *sequence + 1);
        std::error_code ignored;  // Not to be looked at: not a pack.
        if (entry->symlink_status(ignored).type() == fs::file_type::regular) {
            sequences.push_back(*sequence);
        }
    }
    if (error) return fail(Error::from_errno("list " + directory.string(), error.value()));
    std::ranges::sort(sequences);
    return sequences;
}

fs::path ChunkStore::Impl::pack_path(std::uint64_t sequence) const {
    return directory / pack_file_name(sequence);
}

Result<ChunkStore::Impl::LoadedPack> ChunkStore::Impl::load_pack(const fs::path& path) {
    PPDSM_ASSIGN(const OwnedFd fd, open_file(path, O_RDONLY));
    PPDSM_ASSIGN(pack::Index contents, pack::load(fd));
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0) return fail_errno("stat " + path.string());
    Pack pack{path, contents.pack_bytes, contents.blocks, status.st_ino, modified_ns(status)};
    return LoadedPack{std::move(pack), std::move(contents)};
}

Status ChunkStore::Impl::load_packs() {
    PPDSM_ASSIGN(const std::vector<std::uint64_t> sequences, list_packs());
    std::vector<pack::Index> contents;
    std::size_t chunks = 0;
    for (const std::uint64_t sequence : sequences) {
        Result<LoadedPack> loaded = load_pack(pack_path(sequence));
        if (!loaded) {
            damaged.push_back({pack_path(sequence), loaded.error().message(), {}});
            continue;
        }
        chunks += loaded->contents.names.size();
        packs.push_back(std::move(loaded->pack));
        contents.push_back(std::move(loaded->contents));
    }
    index.reserve(chunks);
    // Newest first: of two copies the newer is kept, which is the whole one where a chunk was
    // stored anew because of damage, and makes the older pack garbage after a kill between GC's
    // steps.
    for (std::size_t i = packs.size(); i > 0; --i) {
        add_pack_entries(static_cast<std::uint32_t>(i - 1), contents[i - 1], false);
    }
    flushed_entries = index.size();
    return {};
}

void ChunkStore::Impl::add_pack_entries(std::uint32_t pack, const pack::Index& contents,
                                        bool replace) {
    std::size_t chunk = 0;
    for (std::uint32_t block = 0; block < contents.blocks.size(); ++block) {
        std::uint32_t offset_bytes = 0;
        for (std::uint32_t i = 0; i < contents.blocks[block].chunk_count; ++i, ++chunk) {
            const std::uint16_t length_bytes = contents.lengths_bytes[chunk];
            const ChunkPlace place{pack, block, static_cast<std::uint16_t>(offset_bytes),
                                   length_bytes};
            const ChunkIndex::Number known = index.find(contents.names[chunk]);
            if (known == ChunkIndex::kNone) {
                index.insert(contents.names[chunk], place);
            } else if (replace) {
                index[known].place = place;
            }
            offset_bytes += length_bytes;
        }
    }
}

Status ChunkStore::Impl::check_writable(const char* operation) const {
    if (mode == Mode::kWrite) return {};
    return fail(Code::kInvalid, std::string(operation) + " " + directory.string() +
                                    ": the store is open for reading only");
}

PackWriter& ChunkStore::Impl::pending() {
    if (!writer) {
        writer = std::make_unique<PackWriter>(directory / pack_file_name(next_sequence++), index);
        // Cannot fail: there is nothing to wait for yet.
        PPDSM_CHECK(writer->use_workers(workers).has_value());
    }
    return *writer;
}

Status ChunkStore::Impl::move_entry(ChunkIndex::Number entry, ByteView content) {
    const ChunkPlace before = index[entry].place;
    PPDSM_TRY(pending().append(entry, content));
    if (entry < flushed_entries) moved.emplace_back(entry, before);
    return {};
}

Result<ChunkId> ChunkStore::put(ByteView content) {
    const ChunkId id = ChunkId::of(content);
    PPDSM_TRY(put(id, content));
    return id;
}

Status ChunkStore::put(const ChunkId& id, ByteView content) {
    const ChunkIndex::Number known = impl_->index.find(id);
    if (known != ChunkIndex::kNone && !impl_->index[known].place.damaged()) return {};
    PPDSM_TRY(impl_->check_writable("store a chunk in"));
    if (content.empty() || content.size() > kMaxChunkBytes) {
        return fail(Code::kInvalid,
                    "a chunk has 1 to 4096 bytes, not " + std::to_string(content.size()));
    }
    if (known != ChunkIndex::kNone) return impl_->move_entry(known, content);
    if (impl_->index.size() >= ChunkIndex::kMaxEntries) {
        return fail(Code::kOverloaded,
                    impl_->directory.string() + ": too many chunks in one store");
    }
    const ChunkIndex::Number entry = impl_->index.insert(id, {});
    Status appended = impl_->pending().append(entry, content);
    // The entry must not stay without a place; it is the last one.
    if (!appended) impl_->index.truncate(entry);
    return appended;
}

std::size_t ChunkStore::length_bytes(const ChunkId& id) const {
    const ChunkIndex::Number known = impl_->index.find(id);
    if (known == ChunkIndex::kNone || impl_->index[known].place.damaged()) return 0;
    return impl_->index[known].place.length_bytes();
}

Status ChunkStore::use_workers(WorkerPool* workers) {
    impl_->workers = workers;
    if (!impl_->writer) return {};
    return impl_->writer->use_workers(workers);
}

Status ChunkStore::flush() { return impl_->flush_pending(true); }

Status ChunkStore::Impl::flush_pending(bool count_as_written) {
    if (!writer) return {};
    PPDSM_ASSIGN(pack::Index contents, writer->finish());
    const auto number = static_cast<std::uint32_t>(packs.size());
    for (const auto& [entry, before] : moved) index[entry].place.pack = number;
    for (std::size_t i = flushed_entries; i < index.size(); ++i) {
        index[static_cast<ChunkIndex::Number>(i)].place.pack = number;
    }
    packs.push_back({writer->path(), contents.pack_bytes, std::move(contents.blocks), 0, 0});
    if (count_as_written) bytes_written += contents.pack_bytes;
    flushed_entries = index.size();
    moved.clear();
    writer.reset();
    reader.forget_blocks();
    return {};
}

void ChunkStore::abandon() { impl_->abandon_pending(); }

void ChunkStore::Impl::abandon_pending() {
    writer.reset();
    // Backwards, so that an entry that moved twice ends where it began.
    for (auto move = moved.rbegin(); move != moved.rend(); ++move) {
        index[move->first].place = move->second;
    }
    moved.clear();
    index.truncate(flushed_entries);
    reader.forget_blocks();
}

Result<Bytes> ChunkStore::get(const ChunkId& id) {
    PPDSM_ASSIGN(const ByteView content, view(id));
    return Bytes(content.begin(), content.end());
}

Result<ByteView> ChunkStore::view(const ChunkId& id) { return impl_->view(id); }

Result<ByteView> ChunkStore::Impl::view(const ChunkId& id) {
    const ChunkIndex::Number known = index.find(id);
    if (known == ChunkIndex::kNone) return fail(not_found(id));
    const ChunkPlace place = index[known].place;
    std::optional<ByteView> content;
    if (place.pack == PackWriter::kPendingPack) content = writer->in_memory(place);
    if (!content) {
        Result<ByteView> read = reader.read(place, [&](Bytes& raw, Bytes& scratch) {
            if (place.pack != PackWriter::kPendingPack) {
                return read_flushed(reader, place, raw, scratch);
            }
            return writer->read_block(place.block, raw, scratch);
        });
        if (!read) {
            mark_block_damaged(place);
            return fail(
                read.error().within("chunk " + id.to_string() + ": " + pack_name(place.pack)));
        }
        content = *read;
    }
    if (ChunkId::of(*content) != id) {
        index[known].place.mark_damaged();
        return fail(misnamed(id, place.pack));
    }
    return *content;
}

Status ChunkStore::Impl::read_flushed(BlockReader& with, const ChunkPlace& place, Bytes& raw,
                                      Bytes& scratch) const {
    const Pack& pack = packs[place.pack];
    PPDSM_ASSIGN(const OwnedFd* const fd, with.pack(place.pack, pack.path));
    return pack::read_block(*fd, pack.blocks[place.block], raw, scratch);
}

Error ChunkStore::Impl::not_found(const ChunkId& id) const {
    std::string where = "chunk " + id.to_string() + ": not in the store " + directory.string();
    if (!damaged.empty()) where += ", of which " + damaged.front().pack.string() + " is unreadable";
    return {Code::kNotFound, std::move(where)};
}

Error ChunkStore::Impl::misnamed(const ChunkId& id, std::uint32_t pack) const {
    return {Code::kCorrupt, "chunk " + id.to_string() + ": " + pack_name(pack) +
                                " holds other bytes under this name"};
}

struct ChunkStore::Reader::State {
    const ChunkStore::Impl& store;
    BlockReader blocks;
};

ChunkStore::Reader::Reader(const ChunkStore& store)
    : state_(
          std::make_unique<State>(State{*store.impl_, BlockReader(Impl::kMostOpenPacksOfReader)})) {
}
ChunkStore::Reader::~Reader() = default;

Result<ByteView> ChunkStore::Reader::view(const ChunkId& id) {
    const Impl& store = state_->store;
    const ChunkIndex::Number known = store.index.find(id);
    if (known == ChunkIndex::kNone || store.index[known].place.pack == PackWriter::kPendingPack) {
        return fail(store.not_found(id));
    }
    const ChunkPlace place = store.index[known].place;
    PPDSM_ASSIGN(const ByteView content,
                 state_->blocks.read(place, [&](Bytes& raw, Bytes& scratch) {
                     return store.read_flushed(state_->blocks, place, raw, scratch);
                 }));
    if (ChunkId::of(content) != id) return fail(store.misnamed(id, place.pack));
    return content;
}

void ChunkStore::Impl::mark_block_damaged(const ChunkPlace& place) {
    for (ChunkIndex::Entry& entry : index.entries()) {
        if (entry.place.pack == place.pack && entry.place.block == place.block) {
            entry.place.mark_damaged();
        }
    }
}

std::string ChunkStore::Impl::pack_name(std::uint32_t pack) const {
    return (pack == PackWriter::kPendingPack ? writer->path() : packs[pack].path).string();
}

ChunkStore::Usage ChunkStore::usage() const {
    Usage usage;
    usage.chunks = impl_->index.size();
    for (const ChunkIndex::Entry& entry : impl_->index.entries()) {
        usage.raw_bytes += entry.place.length_bytes();
    }
    usage.stored_bytes = stored_bytes();
    return usage;
}

std::uint64_t ChunkStore::chunk_count() const { return impl_->index.size(); }

std::uint64_t ChunkStore::stored_bytes() const {
    std::uint64_t bytes = impl_->writer ? impl_->writer->written_bytes() : 0;
    for (const Impl::Pack& pack : impl_->packs) bytes += pack.size_bytes;
    return bytes;
}

std::uint64_t ChunkStore::bytes_written() const { return impl_->bytes_written; }

const std::vector<ChunkStore::Damage>& ChunkStore::damaged_packs() const { return impl_->damaged; }

}  // namespace ppdsm
