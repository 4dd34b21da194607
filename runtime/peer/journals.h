// The two journals of a program's standard streams. Frames follow each other in one file; an offset
// names a frame boundary, so a length cut off at an offset is again a journal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

enum class Stream : std::uint8_t { kStdout = 1, kStderr = 2 };

/// What the program wrote, in the order in which it was read. The bytes after the last committed
/// offset are speculative: the next incarnation starts by cutting them off.
class OutputLog {
public:
    static Result<OutputLog> open(const std::filesystem::path& path, bool writable);
    Status append(Stream stream, ByteView data);
    /// Frames as they stand in another log at the same offset.
    Status append_frames(ByteView frames);
    [[nodiscard]] Result<Bytes> read_frames(std::uint64_t offset_bytes,
                                            std::uint64_t size_bytes) const;
    Status sync();
    Status truncate(std::uint64_t offset_bytes);
    [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }

    struct Piece {
        Stream stream{};
        Bytes data;
        std::uint64_t next_bytes = 0;  ///< Offset behind the piece.
    };
    /// The next frame at `offset_bytes`, which lies before `end_bytes`.
    [[nodiscard]] Result<Piece> read(std::uint64_t offset_bytes, std::uint64_t end_bytes) const;

private:
    explicit OutputLog(OwnedFd fd) : fd_(std::move(fd)) {}
    OwnedFd fd_;
    std::uint64_t size_bytes_ = 0;
};

/// What the program was given: stdin's bytes and end, and forwarded signals. Durable before given,
/// so that a program that was rolled back is given the same again.
class InputJournal {
public:
    static Result<InputJournal> open(const std::filesystem::path& path);
    /// For readers beside the writer; an absent one is empty.
    static Result<InputJournal> read(const std::filesystem::path& path);
    /// For an empty journal that goes on where another ended: what came before is not kept here.
    Status append_base(std::uint64_t data_bytes, std::uint64_t signals);
    Status append_data(ByteView data);
    Status append_end();
    Status append_signal(int signal);

    [[nodiscard]] std::uint64_t data_bytes() const { return data_bytes_; }
    [[nodiscard]] bool ended() const { return ended_; }
    /// Those that came before this journal included.
    [[nodiscard]] std::uint64_t signal_count() const { return signals_before_ + signals_.size(); }
    /// The signals from that one on, counted alike; those of an earlier journal are not known here.
    [[nodiscard]] std::span<const int> signals_from(std::uint64_t index) const;
    /// Up to `limit_bytes` of stdin from `offset_bytes` (counted in stdin's bytes).
    [[nodiscard]] Result<Bytes> read(std::uint64_t offset_bytes, std::size_t limit_bytes) const;

private:
    struct Extent {
        std::uint64_t data_offset_bytes = 0;
        std::uint64_t file_offset_bytes = 0;
        std::uint32_t size_bytes = 0;
    };
    explicit InputJournal(OwnedFd fd) : fd_(std::move(fd)) {}
    Status load();
    Status append(std::uint8_t kind, std::uint8_t value, ByteView data);
    void note(std::uint8_t kind, std::uint8_t value, ByteView data, std::uint32_t size_bytes);

    OwnedFd fd_;
    std::uint64_t size_bytes_ = 0;
    std::uint64_t data_bytes_ = 0;
    bool ended_ = false;
    std::uint64_t signals_before_ = 0;
    std::vector<int> signals_;
    std::vector<Extent> extents_;
};

}  // namespace ppdsm
