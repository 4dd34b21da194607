// Modes, owners, times and extended attributes of one node of a tree, read by directory and name
// without following a symlink, written to a node that the caller has pinned by a descriptor.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "criu-glue/manifest/manifest.h"
#include "dsm/base/owned_fd.h"

namespace ppdsm {

using Attributes = std::vector<LayerEntry::Attribute>;

/// Sorted by name. Empty where the file system has none. trusted.* are seen by root only.
Result<Attributes> read_attributes(int directory_fd, const char* name);

/// Whether overlayfs keeps its own notes under this name (either of its two prefixes).
[[nodiscard]] bool is_overlay_attribute(std::string_view name);
/// The value of overlay's own attribute `suffix` ("opaque", "redirect"); null when absent.
[[nodiscard]] const std::string* find_overlay_attribute(const Attributes& attributes,
                                                        std::string_view suffix);

struct NodeMetadata {
    std::uint32_t mode = 0;  ///< Permission bits; ignored for a symlink.
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime_ns = 0;
    Attributes attributes;
};

[[nodiscard]] NodeMetadata metadata_of(const struct stat& status, Attributes attributes);

/// O_PATH descriptor of the node itself, a symlink included.
Result<OwnedFd> pin_node(int directory_fd, const char* name);

/// Gives the node behind `fd` (O_PATH or not) exactly this metadata; attributes that are not named
/// are removed. With `lost` null whatever cannot be kept is an error; otherwise it is added to
/// `lost` in words, and set-id bits are not given to a file whose owner could not be set.
Status write_metadata(const OwnedFd& fd, const NodeMetadata& metadata,
                      std::vector<std::string>* lost);

}  // namespace ppdsm
