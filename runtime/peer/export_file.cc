#include "runtime/peer/export_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lz4frame.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "criu-glue/manifest/manifest.h"
#include "criu-glue/store/chunk_store.h"
#include "runtime/peer/checkpointer.h"
#include "runtime/peer/file_view.h"
#include "runtime/peer/journals.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

namespace {

constexpr std::string_view kMagic = "ppdsm-export";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kReadBytes = std::size_t{256} << 10;
constexpr std::uint64_t kMaxSectionBytes = std::uint64_t{256} << 20;

enum class Section : std::uint8_t {
    kHeader = 1,
    kRecord = 2,
    kGeneration = 3,
    kManifest = 4,
    kOutput = 5,  ///< A piece of the output log up to the commit, in order.
    kInput = 6,   ///< A piece of the input journal, in order.
    kChunk = 7,
    kEnd = 8,
};

struct FreeCompression {
    void operator()(LZ4F_cctx* context) const { LZ4F_freeCompressionContext(context); }
    void operator()(LZ4F_dctx* context) const { LZ4F_freeDecompressionContext(context); }
};

class SectionWriter {
public:
    static Result<SectionWriter> create(const OwnedFd& fd) {
        LZ4F_cctx* context = nullptr;
        if (LZ4F_isError(LZ4F_createCompressionContext(&context, LZ4F_VERSION))) {
            return fail(Code::kOverloaded, "no memory to compress with");
        }
        SectionWriter writer(fd, context);
        writer.buffer_.resize(LZ4F_HEADER_SIZE_MAX);
        PPDSM_TRY(writer.put(LZ4F_compressBegin(context, writer.buffer_.data(),
                                                writer.buffer_.size(), &writer.preferences_)));
        return writer;
    }

    Status add(Section section, ByteView data) {
        std::array<std::uint8_t, 9> head{static_cast<std::uint8_t>(section)};
        const std::uint64_t size = data.size();
        std::memcpy(head.data() + 1, &size, sizeof size);
        PPDSM_TRY(compress(head));
        return compress(data);
    }

    Status finish() {
        PPDSM_TRY(add(Section::kEnd, {}));
        buffer_.resize(LZ4F_compressBound(0, &preferences_));
        return put(LZ4F_compressEnd(context_.get(), buffer_.data(), buffer_.size(), nullptr));
    }

private:
    SectionWriter(const OwnedFd& fd, LZ4F_cctx* context) : fd_(&fd), context_(context) {
        preferences_.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
    }
    Status compress(ByteView data) {
        buffer_.resize(LZ4F_compressBound(data.size(), &preferences_));
        return put(LZ4F_compressUpdate(context_.get(), buffer_.data(), buffer_.size(), data.data(),
                                       data.size(), nullptr));
    }
    Status put(std::size_t produced) {
        if (LZ4F_isError(produced)) return fail(Code::kIo, LZ4F_getErrorName(produced));
        return write_all(*fd_, ByteView(buffer_).first(produced));
    }

    const OwnedFd* fd_;
    std::unique_ptr<LZ4F_cctx, FreeCompression> context_;
    LZ4F_preferences_t preferences_{};
    Bytes buffer_;
};

class SectionReader {
public:
    static Result<SectionReader> create(OwnedFd fd) {
        LZ4F_dctx* context = nullptr;
        if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION))) {
            return fail(Code::kOverloaded, "no memory to decompress with");
        }
        return SectionReader(std::move(fd), context);
    }

    struct Piece {
        Section section{};
        Bytes data;
    };
    Result<Piece> next() {
        std::array<std::uint8_t, 9> head{};
        PPDSM_TRY(read_exactly(head));
        std::uint64_t size = 0;
        std::memcpy(&size, head.data() + 1, sizeof size);
        if (size > kMaxSectionBytes)
            return fail(Code::kCorrupt, "a section claims to be too large");
        Piece piece{static_cast<Section>(head[0]), Bytes(size)};
        PPDSM_TRY(read_exactly(piece.data));
        return piece;
    }
    /// The frame's checksum covers all sections: true only when it was right.
    Status expect_end() {
        std::uint8_t extra = 0;
        const Status more = read_exactly({&extra, 1});
        if (more || !frame_done_)
            return fail(Code::kCorrupt, "the file does not end where it should");
        return {};
    }

private:
    SectionReader(OwnedFd fd, LZ4F_dctx* context) : fd_(std::move(fd)), context_(context) {
        compressed_.resize(kReadBytes);
    }
    Status read_exactly(std::span<std::uint8_t> into) {
        while (!into.empty()) {
            if (frame_done_) return fail(Code::kCorrupt, "ends early");
            if (at_ == filled_) {
                const ssize_t got = ::read(fd_.get(), compressed_.data(), compressed_.size());
                if (got < 0) return fail_errno("read");
                at_ = 0;
                filled_ = static_cast<std::size_t>(got);
            }
            std::size_t produced = into.size();
            std::size_t consumed = filled_ - at_;
            const bool no_input = consumed == 0;
            const std::size_t hint = LZ4F_decompress(context_.get(), into.data(), &produced,
                                                     compressed_.data() + at_, &consumed, nullptr);
            if (LZ4F_isError(hint)) return fail(Code::kCorrupt, LZ4F_getErrorName(hint));
            if (no_input && produced == 0) return fail(Code::kCorrupt, "ends early");
            at_ += consumed;
            into = into.subspan(produced);
            frame_done_ = hint == 0;
        }
        return {};
    }

    OwnedFd fd_;
    std::unique_ptr<LZ4F_dctx, FreeCompression> context_;
    Bytes compressed_;
    std::size_t at_ = 0;
    std::size_t filled_ = 0;
    bool frame_done_ = false;
};

Status add_file(SectionWriter& writer, Section section, const std::filesystem::path& path,
                std::uint64_t limit_bytes) {
    const Result<OwnedFd> fd = open_file(path, O_RDONLY);
    if (!fd && fd.error().code() == Code::kNotFound) return {};
    if (!fd) return fail(fd.error());
    Bytes piece(kReadBytes);
    for (std::uint64_t at = 0; at < limit_bytes;) {
        const ssize_t got = ::pread(fd->get(), piece.data(),
                                    std::min<std::uint64_t>(piece.size(), limit_bytes - at),
                                    static_cast<off_t>(at));
        if (got < 0) return fail_errno("read " + path.string());
        if (got == 0) return {};
        PPDSM_TRY(writer.add(section, ByteView(piece).first(static_cast<std::size_t>(got))));
        at += static_cast<std::uint64_t>(got);
    }
    return {};
}

Bytes header_bytes() {
    Bytes header(kMagic.begin(), kMagic.end());
    header.resize(kMagic.size() + sizeof kVersion);
    std::memcpy(header.data() + kMagic.size(), &kVersion, sizeof kVersion);
    return header;
}

Status check_header(const Bytes& header) {
    if (header.size() != kMagic.size() + sizeof kVersion || !as_text(header).starts_with(kMagic)) {
        return fail(Code::kCorrupt, "not a file of `ppdsm checkpoint export`");
    }
    std::uint32_t version = 0;
    std::memcpy(&version, header.data() + kMagic.size(), sizeof version);
    if (version > kVersion) {
        return fail(Code::kUnsupported,
                    fmt::format("the file has version {}, this ppdsm reads up to {}; update ppdsm",
                                version, kVersion));
    }
    return {};
}

/// A VC being made out of an export; removed again unless finished.
class Import {
public:
    Import(VcPaths paths, std::unique_ptr<ChunkStore> store)
        : paths_(std::move(paths)), store_(std::move(store)) {}
    Import(const Import&) = delete;
    Import& operator=(const Import&) = delete;
    ~Import() {
        store_.reset();
        std::error_code ignored;
        if (!done_) std::filesystem::remove_all(paths_.directory, ignored);
    }

    Status take(const SectionReader::Piece& piece) {
        switch (piece.section) {
            case Section::kRecord: record_ = piece.data; return {};
            case Section::kGeneration: generation_ = piece.data; return {};
            case Section::kManifest: manifest_ = piece.data; return {};
            case Section::kOutput: return append(paths_.output(), piece.data);
            case Section::kInput: return append(paths_.input(), piece.data);
            case Section::kChunk: {
                PPDSM_TRY(store_->put(piece.data));
                return {};
            }
            default: return fail(Code::kCorrupt, "unknown section");
        }
    }

    Status finish() {
        PPDSM_TRY(store_->flush());
        PPDSM_ASSIGN(const GenerationRecord generation, parse_generation(as_text(generation_)));
        if (ChunkId::of(manifest_) != generation.manifest)
            return fail(Code::kCorrupt, "the manifest is damaged");
        PPDSM_ASSIGN(const Manifest manifest, decode_manifest(manifest_));
        Status sound;
        for_each_blob(manifest, [&](const BlobRef& blob) {
            const Status checked =
                check_blob(*store_, blob, [&](const ChunkId&, const Error& error) {
                    if (sound) sound = fail(error);
                });
            if (!checked && sound) sound = checked;
        });
        PPDSM_TRY(sound);
        PPDSM_TRY(replace_file(paths_.manifest(generation.generation), manifest_, 0600));
        PPDSM_ASSIGN(CommitLog log, CommitLog::open(paths_.commits()));
        PPDSM_TRY(log.begin_epoch());
        PPDSM_TRY(log.commit(generation));
        // Its output so far was shown where it came from.
        const std::uint64_t delivered = generation.output_bytes;
        PPDSM_TRY(replace_file(
            paths_.delivered(),
            {reinterpret_cast<const std::uint8_t*>(&delivered), sizeof delivered}, 0600));
        PPDSM_TRY(make_durable(paths_.output()));
        PPDSM_TRY(make_durable(paths_.input()));
        // The record makes the VC visible: last.
        PPDSM_TRY(replace_file(paths_.record(), record_, 0600));
        PPDSM_ASSIGN(VcRecord record, read_record(paths_));
        PPDSM_TRY(check_working_directory(record));
        record.id = paths_.id();
        PPDSM_TRY(write_record(paths_, record));
        done_ = true;
        return {};
    }

private:
    static Status append(const std::filesystem::path& path, ByteView data) {
        PPDSM_ASSIGN(const OwnedFd fd, open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0600));
        return write_all(fd, data);
    }
    static Status make_durable(const std::filesystem::path& path) {
        PPDSM_ASSIGN(const OwnedFd fd, open_file(path, O_WRONLY | O_CREAT, 0600));
        return sync_fd(fd);
    }

    VcPaths paths_;
    std::unique_ptr<ChunkStore> store_;
    Bytes record_;
    Bytes generation_;
    Bytes manifest_;
    bool done_ = false;
};

/// All chunks of the generation, each read and found right: a damaged one shows here, not on the
/// machine that needs it.
Result<ChunkSet> sound_chunks(ChunkStore& store, const Manifest& manifest) {
    ChunkSet chunks;
    Status sound;
    for_each_blob(manifest, [&](const BlobRef& blob) {
        if (!sound) return;
        sound = check_blob(store, blob, [&](const ChunkId&, const Error& error) {
            if (sound) sound = fail(error);
        });
        if (sound) sound = mark_blob(store, blob, chunks);
    });
    PPDSM_TRY(sound);
    return chunks;
}

}  // namespace

Status export_generation(const VcPaths& paths, const GenerationRecord& record,
                         const std::filesystem::path& file, const Progress& progress) {
    PPDSM_ASSIGN(const std::unique_ptr<ChunkStore> store,
                 ChunkStore::open(paths.chunks(), ChunkStore::Mode::kRead));
    PPDSM_ASSIGN(const Manifest manifest, load_manifest(paths, record));
    PPDSM_ASSIGN(const ChunkSet chunks, sound_chunks(*store, manifest));
    PPDSM_ASSIGN(PendingFile pending, PendingFile::create(file, 0600));
    PPDSM_ASSIGN(SectionWriter writer, SectionWriter::create(pending.fd()));
    PPDSM_TRY(writer.add(Section::kHeader, header_bytes()));
    PPDSM_ASSIGN(const Bytes description, read_file(paths.record()));
    PPDSM_TRY(writer.add(Section::kRecord, description));
    PPDSM_TRY(writer.add(Section::kGeneration, as_bytes(format_generation(record))));
    PPDSM_ASSIGN(const Bytes encoded, read_file(paths.manifest(record.generation)));
    PPDSM_TRY(writer.add(Section::kManifest, encoded));
    PPDSM_TRY(add_file(writer, Section::kOutput, paths.output(), record.output_bytes));
    PPDSM_TRY(add_file(writer, Section::kInput, paths.input(), std::uint64_t{1} << 62));
    std::uint64_t done = 0;
    for (const ChunkId& id : chunks) {
        if (store->contains(id)) {  // A marked set also holds names that mark_blob made up.
            PPDSM_ASSIGN(const Bytes content, store->get(id));
            PPDSM_TRY(writer.add(Section::kChunk, content));
        }
        if (progress) progress(++done, chunks.size());
    }
    PPDSM_TRY(writer.finish());
    return pending.commit();
}

Result<VcPaths> import_generation(const Home& home, const std::filesystem::path& file) {
    const auto take_all = [&]() -> Result<VcPaths> {
        PPDSM_ASSIGN(OwnedFd fd, open_file(file, O_RDONLY));
        PPDSM_ASSIGN(SectionReader reader, SectionReader::create(std::move(fd)));
        PPDSM_ASSIGN(const SectionReader::Piece header, reader.next());
        if (header.section != Section::kHeader)
            return fail(Code::kCorrupt, "not a file of `ppdsm checkpoint export`");
        PPDSM_TRY(check_header(header.data));
        PPDSM_ASSIGN(const VcPaths paths, home.create_vc());
        PPDSM_ASSIGN(std::unique_ptr<ChunkStore> store,
                     ChunkStore::open(paths.chunks(), ChunkStore::Mode::kWrite));
        Import import(paths, std::move(store));
        for (;;) {
            PPDSM_ASSIGN(const SectionReader::Piece piece, reader.next());
            if (piece.section == Section::kEnd) break;
            PPDSM_TRY(import.take(piece));
        }
        PPDSM_TRY(reader.expect_end());
        PPDSM_TRY(import.finish());
        return paths;
    };
    Result<VcPaths> imported = take_all();
    if (!imported) return fail(imported.error().within(file.string()));
    return imported;
}

}  // namespace ppdsm
