// The memory of one process in a checkpoint, by virtual address: private pages and those of shared
// segments that it maps. What is not in the checkpoint (file pages that nobody wrote to, memory
// never touched) is a hole.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "criu-glue/images/image_source.h"
#include "dsm/base/result.h"

namespace ppdsm {

namespace images {
struct AddressSpace;
}

struct AddressRange {
    std::uint64_t start = 0;
    std::uint64_t end = 0;  ///< Exclusive.

    bool operator==(const AddressRange&) const = default;
};

/// One place where the pattern begins, valid during the callback.
struct MemoryMatch {
    std::uint64_t address = 0;
    std::uint64_t context_address = 0;  ///< Of context[0].
    ByteView context;                   ///< The match and what is around it, as far as present.
};

/// False ends the search.
using MatchCallback = std::function<bool(const MemoryMatch&)>;

class MemoryImage {
public:
    /// kNotFound when the tree has no process of this pid with memory. `source` must outlive it.
    static Result<MemoryImage> open(ImageSource& source, std::uint32_t pid);
    MemoryImage(MemoryImage&&) noexcept;
    MemoryImage& operator=(MemoryImage&&) noexcept;
    MemoryImage(const MemoryImage&) = delete;
    MemoryImage& operator=(const MemoryImage&) = delete;
    ~MemoryImage();

    /// Ascending; neighbours are one range, whichever images they come from.
    [[nodiscard]] const std::vector<AddressRange>& present() const { return present_; }
    [[nodiscard]] std::uint64_t page_bytes() const;

    /// Fills `into` from `address` on; returns the parts that are not present and were filled with
    /// zeros.
    Result<std::vector<AddressRange>> read(std::uint64_t address, std::span<std::uint8_t> into);

    /// Every occurrence of `pattern`, by address, overlapping ones too; they may cross pages that
    /// are neighbours in memory. At most 1 MiB of pattern and of context on each side.
    Status search(ByteView pattern, const MatchCallback& found, std::size_t context_bytes = 16);

private:
    MemoryImage(ImageSource& source, std::unique_ptr<images::AddressSpace> space);
    Result<bool> search_range(const AddressRange& range, ByteView pattern,
                              const MatchCallback& found, std::uint64_t context_bytes);

    ImageSource* source_;
    std::unique_ptr<images::AddressSpace> space_;
    std::vector<AddressRange> present_;
};

}  // namespace ppdsm
