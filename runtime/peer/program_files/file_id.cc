#include "runtime/peer/program_files/file_id.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>

namespace ppdsm {

namespace {

Bytes as_hashed(const FileLayout& layout) {
    Bytes bytes;
    bytes.reserve(layout.pieces.size() * sizeof(PieceId::bytes) + sizeof layout.size_bytes);
    for (const PieceId& piece : layout.pieces) {
        bytes.insert(bytes.end(), piece.bytes.begin(), piece.bytes.end());
    }
    for (unsigned shift = 0; shift < 64; shift += 8) {
        bytes.push_back(static_cast<std::uint8_t>(layout.size_bytes >> shift));
    }
    return bytes;
}

std::uint64_t pieces_of(std::uint64_t size_bytes) {
    return size_bytes / kPieceBytes + (size_bytes % kPieceBytes != 0 ? 1 : 0);
}

}  // namespace

Result<FileId> FileId::parse(std::string_view hexadecimal) {
    FileId id;
    const auto bad = [&] {
        return fail(Code::kCorrupt, std::string(hexadecimal) + " is not the name of a content");
    };
    if (hexadecimal.size() != 2 * id.hash.bytes.size()) return bad();
    for (std::size_t i = 0; i < id.hash.bytes.size(); ++i) {
        const char* digits = hexadecimal.data() + 2 * i;
        const auto [end, error] = std::from_chars(digits, digits + 2, id.hash.bytes[i], 16);
        if (error != std::errc() || end != digits + 2) return bad();
    }
    return id;
}

FileId FileLayout::id() const { return {ChunkId::of(as_hashed(*this))}; }

std::uint64_t FileLayout::piece_bytes(std::size_t index) const {
    return std::min(kPieceBytes, size_bytes - index * kPieceBytes);
}

bool FileLayout::is_sound() const {
    return size_bytes <= kMostFileBytes && pieces.size() == pieces_of(size_bytes);
}

FileLayout FileLayout::of(ByteView content) {
    FileLayout layout{content.size(), {}};
    for (std::size_t at = 0; at < content.size(); at += kPieceBytes) {
        const std::size_t size = std::min<std::size_t>(kPieceBytes, content.size() - at);
        layout.pieces.push_back(PieceId::of(content.subspan(at, size)));
    }
    return layout;
}

Result<FileLayout> FileLayout::of(const OwnedFd& file) {
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) return fail_errno("look at a file");
    FileLayout layout{static_cast<std::uint64_t>(info.st_size), {}};
    if (layout.size_bytes > kMostFileBytes) {
        return fail(Code::kOverloaded, "a file has more than " + std::to_string(kMostFileBytes) +
                                           " bytes, the most that can be shown elsewhere");
    }
    Bytes piece(std::min(layout.size_bytes, kPieceBytes));
    const std::uint64_t count = pieces_of(layout.size_bytes);
    for (std::uint64_t i = 0; i < count; ++i) {
        piece.resize(layout.piece_bytes(i));
        PPDSM_TRY(read_exactly_at(file, piece, i * kPieceBytes));
        layout.pieces.push_back(PieceId::of(piece));
    }
    return layout;
}

}  // namespace ppdsm
