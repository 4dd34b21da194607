// Names of contents. A file is cut into pieces of 1 MiB; its name says which, in order, and its
// size. So whoever has the name can check the list of pieces, and with the list every piece,
// wherever they came from. Listings of directories are contents like any other.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "criu-glue/store/chunk_id.h"

namespace ppdsm {

inline constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;
/// Larger files are refused (kOverloaded): the list of pieces stays below 1 MiB.
inline constexpr std::uint64_t kMostFileBytes = kPieceBytes << 16;

/// The XXH3-128 of a piece.
using PieceId = ChunkId;

/// The XXH3-128 of the pieces' ids, one after the other, and the size as 8 bytes, little endian.
struct FileId {
    ChunkId hash;

    [[nodiscard]] std::string to_string() const { return hash.to_string(); }
    [[nodiscard]] static Result<FileId> parse(std::string_view hexadecimal);
    auto operator<=>(const FileId&) const = default;
};

struct FileIdHash {
    std::size_t operator()(const FileId& id) const noexcept { return ChunkIdHash{}(id.hash); }
};

struct FileLayout {
    std::uint64_t size_bytes = 0;
    std::vector<PieceId> pieces;

    [[nodiscard]] FileId id() const;
    [[nodiscard]] std::uint64_t piece_bytes(std::size_t index) const;
    /// Of these bytes as a whole file.
    [[nodiscard]] static FileLayout of(ByteView content);
    /// Reads the file from its beginning to its end. Blocks.
    [[nodiscard]] static Result<FileLayout> of(const OwnedFd& file);
    /// Whether the number of pieces fits the size: what came from elsewhere may be anything.
    [[nodiscard]] bool is_sound() const;
    bool operator==(const FileLayout&) const = default;
};

}  // namespace ppdsm
