#include "criu-glue/store/pack_format.h"

#include <lz4.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <string>
#include <string_view>

#include "dsm/base/check.h"

namespace ppdsm::pack {

namespace {

constexpr std::string_view kHeaderMagic = "PPDSMPAK";
constexpr std::string_view kFooterMagic = "PPDSMEND";
constexpr std::size_t kHeaderSummedBytes = 16;

std::uint64_t checksum_of(ByteView bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

struct Footer {
    std::uint64_t index_checksum = 0;
    std::uint64_t index_bytes = 0;
    std::uint64_t block_count = 0;
    std::uint64_t chunk_count = 0;
    std::uint64_t raw_bytes = 0;
    std::uint64_t pack_bytes = 0;
};

Status check_header(ByteView header) {
    if (as_text(header.first(kHeaderMagic.size())) != kHeaderMagic) {
        return fail(Code::kCorrupt, "header: not a pack");
    }
    if (number_at<std::uint64_t>(header, kHeaderSummedBytes) !=
        checksum_of(header.first(kHeaderSummedBytes))) {
        return fail(Code::kCorrupt, "header: bytes differ from their checksum");
    }
    const auto version = number_at<std::uint32_t>(header, kHeaderMagic.size());
    if (version > kVersion) {
        return fail(Code::kUnsupported, "pack version " + std::to_string(version) +
                                            " is newer than version " + std::to_string(kVersion) +
                                            ", the newest this ppdsm reads; use a newer ppdsm");
    }
    if (version != kVersion) return fail(Code::kCorrupt, "header: no such version");
    return {};
}

Result<Footer> parse_footer(ByteView bytes, std::uint64_t file_bytes) {
    if (as_text(bytes.last(kFooterMagic.size())) != kFooterMagic ||
        number_at<std::uint64_t>(bytes, 0) != checksum_of(bytes.subspan(8))) {
        return fail(Code::kCorrupt, "footer missing or changed");
    }
    Footer footer;
    footer.index_checksum = number_at<std::uint64_t>(bytes, 8);
    footer.index_bytes = number_at<std::uint64_t>(bytes, 16);
    footer.block_count = number_at<std::uint64_t>(bytes, 24);
    footer.chunk_count = number_at<std::uint64_t>(bytes, 32);
    footer.raw_bytes = number_at<std::uint64_t>(bytes, 40);
    footer.pack_bytes = number_at<std::uint64_t>(bytes, 48);
    if (footer.pack_bytes != file_bytes) {
        return fail(Code::kCorrupt, "has " + std::to_string(file_bytes) + " bytes instead of " +
                                        std::to_string(footer.pack_bytes));
    }
    // The counts are bounded by the file's size first: then the products below cannot overflow.
    if (footer.block_count > file_bytes || footer.chunk_count > file_bytes ||
        footer.index_bytes !=
            footer.block_count * kBlockEntryBytes + footer.chunk_count * kChunkEntryBytes ||
        footer.index_bytes > file_bytes - kHeaderBytes - kFooterBytes) {
        return fail(Code::kCorrupt, "footer: counts do not fit the file");
    }
    return footer;
}

Status parse_blocks(ByteView table, const Footer& footer, std::vector<Block>& blocks) {
    std::uint64_t offset_bytes = kHeaderBytes;
    std::uint64_t raw_bytes = 0;
    std::uint64_t chunks = 0;
    blocks.reserve(footer.block_count);
    for (std::size_t at = 0; at < table.size(); at += kBlockEntryBytes) {
        Block block;
        block.offset_bytes = offset_bytes;
        block.checksum = number_at<std::uint64_t>(table, at);
        block.stored_bytes = number_at<std::uint32_t>(table, at + 8);
        block.raw_bytes = number_at<std::uint32_t>(table, at + 12);
        block.chunk_count = number_at<std::uint32_t>(table, at + 16);
        const auto method = number_at<std::uint32_t>(table, at + 20);
        const bool raw = method == static_cast<std::uint32_t>(Method::kRaw);
        if (method > static_cast<std::uint32_t>(Method::kLz4) || block.stored_bytes == 0 ||
            block.raw_bytes > kMaxBlockBytes || block.stored_bytes > block.raw_bytes ||
            (raw && block.stored_bytes != block.raw_bytes) || block.chunk_count == 0 ||
            block.chunk_count > block.raw_bytes) {
            return fail(Code::kCorrupt, "index: impossible block");
        }
        block.method = raw ? Method::kRaw : Method::kLz4;
        offset_bytes += block.stored_bytes;
        raw_bytes += block.raw_bytes;
        chunks += block.chunk_count;
        blocks.push_back(block);
    }
    if (offset_bytes + footer.index_bytes + kFooterBytes != footer.pack_bytes ||
        raw_bytes != footer.raw_bytes || chunks != footer.chunk_count) {
        return fail(Code::kCorrupt, "index: blocks do not fill the pack");
    }
    return {};
}

/// Each block's chunks must fill it exactly, so that a place computed from them lies inside.
Status check_lengths(const Index& index) {
    std::size_t chunk = 0;
    for (const Block& block : index.blocks) {
        std::uint64_t sum_bytes = 0;
        for (std::uint32_t i = 0; i < block.chunk_count; ++i, ++chunk) {
            const std::uint16_t length_bytes = index.lengths_bytes[chunk];
            if (length_bytes == 0 || length_bytes > kMaxChunkBytes) {
                return fail(Code::kCorrupt, "index: impossible chunk length");
            }
            sum_bytes += length_bytes;
        }
        if (sum_bytes != block.raw_bytes) {
            return fail(Code::kCorrupt, "index: chunks do not fill their block");
        }
    }
    return {};
}

}  // namespace

std::array<std::uint8_t, kHeaderBytes> encode_header() {
    Bytes bytes(kHeaderMagic.begin(), kHeaderMagic.end());
    append_number(bytes, kVersion);
    append_number(bytes, std::uint32_t{0});
    append_number(bytes, checksum_of(bytes));
    std::array<std::uint8_t, kHeaderBytes> header{};
    PPDSM_CHECK(bytes.size() == header.size());
    std::memcpy(header.data(), bytes.data(), header.size());
    return header;
}

Bytes encode_tail(Index& index) {
    PPDSM_CHECK(index.names.size() == index.lengths_bytes.size());
    Bytes tail;
    tail.reserve(index.blocks.size() * kBlockEntryBytes + index.names.size() * kChunkEntryBytes +
                 kFooterBytes);
    std::uint64_t stored_bytes = 0;
    std::uint64_t raw_bytes = 0;
    for (const Block& block : index.blocks) {
        append_number(tail, block.checksum);
        append_number(tail, block.stored_bytes);
        append_number(tail, block.raw_bytes);
        append_number(tail, block.chunk_count);
        append_number(tail, static_cast<std::uint32_t>(block.method));
        stored_bytes += block.stored_bytes;
        raw_bytes += block.raw_bytes;
    }
    for (const ChunkId& name : index.names) {
        tail.insert(tail.end(), name.bytes.begin(), name.bytes.end());
    }
    for (const std::uint16_t length_bytes : index.lengths_bytes) append_number(tail, length_bytes);
    const std::uint64_t index_bytes = tail.size();
    index.pack_bytes = kHeaderBytes + stored_bytes + index_bytes + kFooterBytes;
    Bytes footer;
    append_number(footer, checksum_of(tail));
    append_number(footer, index_bytes);
    append_number(footer, std::uint64_t{index.blocks.size()});
    append_number(footer, std::uint64_t{index.names.size()});
    append_number(footer, raw_bytes);
    append_number(footer, index.pack_bytes);
    footer.insert(footer.end(), kFooterMagic.begin(), kFooterMagic.end());
    append_number(tail, checksum_of(footer));
    tail.insert(tail.end(), footer.begin(), footer.end());
    PPDSM_CHECK(tail.size() == index_bytes + kFooterBytes);
    return tail;
}

Result<Index> load(const OwnedFd& fd) {
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0) return fail_errno("stat");
    const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
    if (file_bytes < kHeaderBytes + kFooterBytes) {
        return fail(Code::kCorrupt, "footer missing: the file is cut off");
    }
    std::array<std::uint8_t, kHeaderBytes> header{};
    PPDSM_TRY(read_exactly_at(fd, header, 0));
    PPDSM_TRY(check_header(header));
    std::array<std::uint8_t, kFooterBytes> footer_bytes{};
    PPDSM_TRY(read_exactly_at(fd, footer_bytes, file_bytes - kFooterBytes));
    PPDSM_ASSIGN(const Footer footer, parse_footer(footer_bytes, file_bytes));
    Bytes table(footer.index_bytes);
    PPDSM_TRY(read_exactly_at(fd, table, file_bytes - kFooterBytes - footer.index_bytes));
    if (checksum_of(table) != footer.index_checksum) {
        return fail(Code::kCorrupt, "index: bytes differ from their checksum");
    }
    Index index;
    index.pack_bytes = file_bytes;
    const std::size_t blocks_bytes = footer.block_count * kBlockEntryBytes;
    const std::size_t names_bytes = footer.chunk_count * sizeof(ChunkId);
    PPDSM_TRY(parse_blocks(ByteView(table).first(blocks_bytes), footer, index.blocks));
    index.names.resize(footer.chunk_count);
    index.lengths_bytes.resize(footer.chunk_count);
    if (footer.chunk_count > 0) {
        std::memcpy(index.names.data(), table.data() + blocks_bytes, names_bytes);
        std::memcpy(index.lengths_bytes.data(), table.data() + blocks_bytes + names_bytes,
                    footer.chunk_count * sizeof(std::uint16_t));
    }
    PPDSM_TRY(check_lengths(index));
    return index;
}

PackedBlock compress_block(ByteView raw) {
    PPDSM_CHECK(!raw.empty() && raw.size() <= kMaxBlockBytes);
    PackedBlock packed;
    packed.stored.resize(raw.size());
    const auto most_bytes = static_cast<int>(raw.size() - raw.size() / 16 - 1);
    const int size_bytes = LZ4_compress_default(reinterpret_cast<const char*>(raw.data()),
                                                reinterpret_cast<char*>(packed.stored.data()),
                                                static_cast<int>(raw.size()), most_bytes);
    if (size_bytes > 0) {
        packed.method = Method::kLz4;
        packed.stored.resize(static_cast<std::size_t>(size_bytes));
    } else {
        std::memcpy(packed.stored.data(), raw.data(), raw.size());
    }
    packed.checksum = checksum_of(packed.stored);
    return packed;
}

std::uint64_t block_checksum(ByteView stored) { return checksum_of(stored); }

Status decompress(Method method, ByteView stored, std::uint32_t raw_bytes, Bytes& raw) {
    if (raw_bytes > kMaxBlockBytes) return fail(Code::kCorrupt, "too large for a block");
    if (method == Method::kRaw) {
        if (stored.size() != raw_bytes) return fail(Code::kCorrupt, "has another length");
        raw.assign(stored.begin(), stored.end());
        return {};
    }
    raw.resize(raw_bytes);
    const int size_bytes = LZ4_decompress_safe(
        reinterpret_cast<const char*>(stored.data()), reinterpret_cast<char*>(raw.data()),
        static_cast<int>(stored.size()), static_cast<int>(raw.size()));
    if (size_bytes < 0 || static_cast<std::uint32_t>(size_bytes) != raw_bytes) {
        return fail(Code::kCorrupt, "does not decompress");
    }
    return {};
}

namespace {
std::string place_of(const Block& block) {
    return "block at " + std::to_string(block.offset_bytes);
}
}  // namespace

Status read_stored(const OwnedFd& fd, const Block& block, Bytes& stored) {
    stored.resize(block.stored_bytes);
    if (Status read = read_exactly_at(fd, stored, block.offset_bytes); !read) {
        return fail(read.error().within(place_of(block)));
    }
    if (checksum_of(stored) != block.checksum) {
        return fail(Code::kCorrupt, place_of(block) + ": bytes differ from their checksum");
    }
    return {};
}

Status read_block(const OwnedFd& fd, const Block& block, Bytes& raw, Bytes& scratch) {
    if (block.method == Method::kRaw) return read_stored(fd, block, raw);
    PPDSM_TRY(read_stored(fd, block, scratch));
    Status done = decompress(block.method, scratch, block.raw_bytes, raw);
    if (!done) return fail(done.error().within(place_of(block)));
    return {};
}

}  // namespace ppdsm::pack
