#include "criu-glue/images/memory_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "criu-glue/images/address_space.h"
#include "criu-glue/images/file_table.h"

namespace ppdsm {
namespace {

constexpr std::uint64_t kWindowBytes = std::uint64_t{4} << 20;
constexpr std::size_t kMaxPatternBytes = std::size_t{1} << 20;

}  // namespace

Result<MemoryImage> MemoryImage::open(ImageSource& source, std::uint32_t pid) {
    const Result<std::uint64_t> memory = source.size(fmt::format("mm-{}.img", pid));
    if (!memory && memory.error().code() == Code::kNotFound) {
        return fail(Code::kNotFound,
                    fmt::format("the checkpoint has no process {} with memory", pid));
    }
    PPDSM_ASSIGN(const auto files, images::FileTable::read(source));
    PPDSM_ASSIGN(auto space, images::read_address_space(source, files, pid));
    return MemoryImage(source, std::make_unique<images::AddressSpace>(std::move(space)));
}

MemoryImage::MemoryImage(ImageSource& source, std::unique_ptr<images::AddressSpace> space)
    : source_(&source), space_(std::move(space)) {
    for (const images::Extent& extent : space_->extents) {
        if (!present_.empty() && present_.back().end == extent.start) {
            present_.back().end = extent.end;
        } else {
            present_.push_back({extent.start, extent.end});
        }
    }
}

MemoryImage::MemoryImage(MemoryImage&&) noexcept = default;
MemoryImage& MemoryImage::operator=(MemoryImage&&) noexcept = default;
MemoryImage::~MemoryImage() = default;

std::uint64_t MemoryImage::page_bytes() const { return space_->page_bytes; }

Result<std::vector<AddressRange>> MemoryImage::read(std::uint64_t address,
                                                    std::span<std::uint8_t> into) {
    return images::read_memory(*source_, *space_, address, into);
}

Status MemoryImage::search(ByteView pattern, const MatchCallback& found,
                           std::size_t context_bytes) {
    if (pattern.empty() || pattern.size() > kMaxPatternBytes || context_bytes > kMaxPatternBytes) {
        return fail(Code::kInvalid,
                    fmt::format("a pattern has 1 to {} bytes, and so has its context at most; "
                                "this one has {}, its context {}",
                                kMaxPatternBytes, pattern.size(), context_bytes));
    }
    for (const AddressRange& range : present_) {
        PPDSM_ASSIGN(const bool go_on, search_range(range, pattern, found, context_bytes));
        if (!go_on) break;
    }
    return {};
}

// Windows of matches' beginnings; each is read with the margins that a match at its edge needs.
Result<bool> MemoryImage::search_range(const AddressRange& range, ByteView pattern,
                                       const MatchCallback& found, std::uint64_t context_bytes) {
    Bytes buffer;
    for (std::uint64_t window = range.start; window < range.end; window += kWindowBytes) {
        const std::uint64_t window_end = std::min(window + kWindowBytes, range.end);
        const std::uint64_t from = window - std::min(context_bytes, window - range.start);
        const std::uint64_t to =
            window_end + std::min(pattern.size() - 1 + context_bytes, range.end - window_end);
        buffer.resize(to - from);
        PPDSM_TRY(read(from, buffer));
        const std::uint8_t* at = buffer.data() + (window - from);
        const std::uint8_t* const last =
            buffer.data() + (std::min(window_end + pattern.size() - 1, range.end) - from);
        for (;;) {
            const void* match =
                ::memmem(at, static_cast<std::size_t>(last - at), pattern.data(), pattern.size());
            if (match == nullptr) break;
            at = static_cast<const std::uint8_t*>(match);
            const auto offset = static_cast<std::uint64_t>(at - buffer.data());
            const std::uint64_t before = std::min(context_bytes, offset);
            const std::uint64_t length =
                std::min(before + pattern.size() + context_bytes, buffer.size() - offset + before);
            const MemoryMatch report{from + offset, from + offset - before,
                                     ByteView(buffer).subspan(offset - before, length)};
            if (!found(report)) return false;
            ++at;
        }
    }
    return true;
}

}  // namespace ppdsm
