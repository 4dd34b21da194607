// What differs between two checkpoints of one computation: processes by pid, memory page by page
// and by virtual address, descriptors by number, files by path.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "criu-glue/images/image_source.h"
#include "criu-glue/images/process_image.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Where one page's bytes are; the name is valid during the call.
struct PageLocation {
    const std::string& image_name;
    std::uint64_t offset_bytes;
    std::uint64_t size_bytes;
};

/// Knows, perhaps, without reading them whether two pages are equal: by the names of their chunks.
/// None: read and compare.
using PageComparator =
    std::function<std::optional<bool>(const PageLocation& before, const PageLocation& after)>;

struct PageCounts {
    std::uint64_t changed = 0;    ///< In both, with other content.
    std::uint64_t added = 0;      ///< Only in the later.
    std::uint64_t removed = 0;    ///< Only in the earlier.
    std::uint64_t unchanged = 0;  ///< In both, equal.

    [[nodiscard]] bool differ() const { return changed + added + removed != 0; }
    bool operator==(const PageCounts&) const = default;
};

/// A mapping is the same one when it begins at the same address and is of the same thing; it may
/// have grown or got another protection.
struct MappingDiff {
    std::optional<Mapping> before;
    std::optional<Mapping> after;
    PageCounts pages;
};

struct DescriptorDiff {
    std::uint32_t fd = 0;
    std::optional<Descriptor> before;
    std::optional<Descriptor> after;
};

struct FieldChange {
    std::string field;  ///< "state", "cwd", ...
    std::string before;
    std::string after;
};

struct ProcessDiff {
    std::uint32_t pid = 0;
    std::string comm;                         ///< As it was later.
    std::vector<FieldChange> fields;          ///< Those that differ.
    PageCounts pages;                         ///< Of all mappings.
    std::vector<MappingDiff> mappings;        ///< Those that differ, by address.
    std::vector<DescriptorDiff> descriptors;  ///< Those that differ. A timer's remaining time and
                                              ///< the kernel's numbers for pipes do not count.

    [[nodiscard]] bool differs() const;
};

/// A file that is open or mapped in only one of the trees, or has another size.
struct FileDiff {
    std::string path;
    bool in_before = false;
    bool in_after = false;
    std::optional<std::uint64_t> size_before_bytes;
    std::optional<std::uint64_t> size_after_bytes;
};

struct ProcessName {
    std::uint32_t pid = 0;
    std::string comm;
    std::uint64_t image_bytes = 0;
};

struct TreeDiff {
    std::uint64_t page_bytes = 4096;
    std::vector<ProcessName> added;
    std::vector<ProcessName> removed;
    std::vector<ProcessDiff> common;  ///< All that are in both, those without a difference too.
    std::vector<FileDiff> files;      ///< By path.
    /// Of the common processes. Shared memory counts in each process that maps it.
    PageCounts pages;
};

Result<TreeDiff> diff_trees(ImageSource& before, ImageSource& after,
                            const PageComparator& comparator = nullptr);

}  // namespace ppdsm
