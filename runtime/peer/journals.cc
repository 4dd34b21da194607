#include "runtime/peer/journals.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace ppdsm {

namespace {

/// Before every frame's bytes, little-endian as all our files are.
struct FrameHeader {
    std::uint8_t kind;
    std::uint8_t value;
    std::uint16_t reserved;
    std::uint32_t size_bytes;
};
static_assert(sizeof(FrameHeader) == 8);

constexpr std::uint8_t kData = 1;
constexpr std::uint8_t kEnd = 2;
constexpr std::uint8_t kSignal = 3;
constexpr std::uint8_t kBase = 4;  // Bytes of stdin and signals that came before, 8 bytes each.
constexpr std::uint32_t kBaseBytes = 16;
/// Of input before a base: more than could ever be given, and far from where sums wrap around.
constexpr std::uint64_t kMaxBase = std::uint64_t{1} << 62;
constexpr std::size_t kMaxFrameBytes = std::size_t{1} << 20;

std::span<std::uint8_t> bytes_of(FrameHeader& header) {
    return {reinterpret_cast<std::uint8_t*>(&header), sizeof header};
}

/// Bytes of data and number of signals that came before a journal's first frame.
std::array<std::uint64_t, 2> base_of(ByteView data) {
    std::array<std::uint64_t, 2> before{};
    std::memcpy(before.data(), data.data(), sizeof before);
    return before;
}

Result<std::uint64_t> file_size(const OwnedFd& fd) {
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return fail_errno("stat a journal");
    return static_cast<std::uint64_t>(info.st_size);
}

}  // namespace

Result<OutputLog> OutputLog::open(const std::filesystem::path& path, bool writable) {
    PPDSM_ASSIGN(OwnedFd fd, open_file(path, writable ? O_RDWR | O_CREAT : O_RDONLY, 0600));
    OutputLog log(std::move(fd));
    PPDSM_ASSIGN(log.size_bytes_, file_size(log.fd_));
    return log;
}

Status OutputLog::append(Stream stream, ByteView data) {
    while (!data.empty()) {
        const ByteView piece = data.first(std::min(data.size(), kMaxFrameBytes));
        FrameHeader header{static_cast<std::uint8_t>(stream), 0, 0,
                           static_cast<std::uint32_t>(piece.size())};
        PPDSM_TRY(write_all_at(fd_, bytes_of(header), size_bytes_));
        PPDSM_TRY(write_all_at(fd_, piece, size_bytes_ + sizeof header));
        size_bytes_ += sizeof header + piece.size();
        data = data.subspan(piece.size());
    }
    return {};
}

Status OutputLog::append_frames(ByteView frames) {
    PPDSM_TRY(write_all_at(fd_, frames, size_bytes_));
    size_bytes_ += frames.size();
    return {};
}

Result<Bytes> OutputLog::read_frames(std::uint64_t offset_bytes, std::uint64_t size_bytes) const {
    Bytes frames(size_bytes);
    PPDSM_TRY(read_exactly_at(fd_, frames, offset_bytes));
    return frames;
}

Status OutputLog::sync() {
    if (::fdatasync(fd_.get()) != 0) return fail_errno("make the output durable");
    return {};
}

Status OutputLog::truncate(std::uint64_t offset_bytes) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(offset_bytes)) != 0) {
        return fail_errno("cut off uncommitted output");
    }
    size_bytes_ = offset_bytes;
    return {};
}

Result<OutputLog::Piece> OutputLog::read(std::uint64_t offset_bytes,
                                         std::uint64_t end_bytes) const {
    FrameHeader header{};
    PPDSM_TRY(read_exactly_at(fd_, bytes_of(header), offset_bytes));
    const std::uint64_t next = offset_bytes + sizeof header + header.size_bytes;
    if (header.size_bytes > kMaxFrameBytes || next > end_bytes || header.kind < 1 ||
        header.kind > 2) {
        return fail(Code::kCorrupt,
                    "output log: bad frame at byte " + std::to_string(offset_bytes));
    }
    Piece piece{static_cast<Stream>(header.kind), Bytes(header.size_bytes), next};
    PPDSM_TRY(read_exactly_at(fd_, piece.data, offset_bytes + sizeof header));
    return piece;
}

Result<InputJournal> InputJournal::open(const std::filesystem::path& path) {
    PPDSM_ASSIGN(OwnedFd fd, open_file(path, O_RDWR | O_CREAT, 0600));
    InputJournal journal(std::move(fd));
    PPDSM_TRY(journal.load());
    if (::ftruncate(journal.fd_.get(), static_cast<off_t>(journal.size_bytes_)) != 0) {
        return fail_errno("cut the torn end off the input journal");
    }
    return journal;
}

Result<InputJournal> InputJournal::read(const std::filesystem::path& path) {
    Result<OwnedFd> fd = open_file(path, O_RDONLY);
    if (!fd && fd.error().code() == Code::kNotFound) return InputJournal(OwnedFd());
    if (!fd) return fail(fd.error());
    InputJournal journal(*std::move(fd));
    PPDSM_TRY(journal.load());
    return journal;
}

/// A torn tail was never given to the program.
Status InputJournal::load() {
    PPDSM_ASSIGN(const std::uint64_t file_bytes, file_size(fd_));
    FrameHeader header{};
    while (size_bytes_ + sizeof header <= file_bytes) {
        PPDSM_TRY(read_exactly_at(fd_, bytes_of(header), size_bytes_));
        if (header.kind < kData || header.kind > kBase) break;
        if (size_bytes_ + sizeof header + header.size_bytes > file_bytes) break;
        Bytes base;
        if (header.kind == kBase) {
            // Nothing comes before it.
            if (header.size_bytes != kBaseBytes || size_bytes_ != 0) break;
            base.resize(kBaseBytes);
            PPDSM_TRY(read_exactly_at(fd_, base, size_bytes_ + sizeof header));
            if (std::ranges::any_of(base_of(base), [](std::uint64_t n) { return n > kMaxBase; })) {
                return fail(Code::kCorrupt, "input journal: a base that cannot be");
            }
        }
        note(header.kind, header.value, base, header.size_bytes);
    }
    return {};
}

void InputJournal::note(std::uint8_t kind, std::uint8_t value, ByteView data,
                        std::uint32_t size_bytes) {
    if (kind == kData) {
        extents_.push_back({data_bytes_, size_bytes_ + sizeof(FrameHeader), size_bytes});
        data_bytes_ += size_bytes;
    } else if (kind == kEnd) {
        ended_ = true;
    } else if (kind == kSignal) {
        signals_.push_back(value);
    } else if (kind == kBase) {
        const auto before = base_of(data);
        data_bytes_ = before[0];
        signals_before_ = before[1];
    }
    size_bytes_ += sizeof(FrameHeader) + size_bytes;
}

Status InputJournal::append(std::uint8_t kind, std::uint8_t value, ByteView data) {
    FrameHeader header{kind, value, 0, static_cast<std::uint32_t>(data.size())};
    const ByteView start = bytes_of(header);
    Bytes frame(start.begin(), start.end());
    frame.insert(frame.end(), data.begin(), data.end());
    // In one piece from its beginning, so that a kill leaves a frame that is seen to be torn.
    PPDSM_TRY(write_all_at(fd_, frame, size_bytes_));
    if (::fdatasync(fd_.get()) != 0) return fail_errno("make the input durable");
    note(kind, value, data, header.size_bytes);
    return {};
}

Status InputJournal::append_base(std::uint64_t data_bytes, std::uint64_t signals) {
    if (data_bytes > kMaxBase || signals > kMaxBase) {
        return fail(Code::kInvalid, "no program has read " + std::to_string(data_bytes) +
                                        " bytes or had " + std::to_string(signals) + " signals");
    }
    const std::array<std::uint64_t, 2> before{data_bytes, signals};
    return append(kBase, 0, {reinterpret_cast<const std::uint8_t*>(before.data()), sizeof before});
}
Status InputJournal::append_data(ByteView data) { return append(kData, 0, data); }
Status InputJournal::append_end() { return append(kEnd, 0, {}); }
Status InputJournal::append_signal(int signal) {
    return append(kSignal, static_cast<std::uint8_t>(signal), {});
}

std::span<const int> InputJournal::signals_from(std::uint64_t index) const {
    const std::span<const int> known = signals_;
    if (index <= signals_before_) return known;
    return known.subspan(std::min<std::uint64_t>(index - signals_before_, known.size()));
}

Result<Bytes> InputJournal::read(std::uint64_t offset_bytes, std::size_t limit_bytes) const {
    const auto after = std::upper_bound(extents_.begin(), extents_.end(), offset_bytes,
                                        [](std::uint64_t offset, const Extent& extent) {
                                            return offset < extent.data_offset_bytes;
                                        });
    if (after == extents_.begin()) return Bytes();
    const Extent& extent = *std::prev(after);
    const std::uint64_t skip = offset_bytes - extent.data_offset_bytes;
    if (skip >= extent.size_bytes) return Bytes();
    Bytes data(std::min<std::uint64_t>(limit_bytes, extent.size_bytes - skip));
    PPDSM_TRY(read_exactly_at(fd_, data, extent.file_offset_bytes + skip));
    return data;
}

}  // namespace ppdsm
