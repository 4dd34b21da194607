#include "criu-glue/manifest/manifest_rules.h"

#include <string>
#include <string_view>

namespace ppdsm {

namespace {

constexpr std::size_t kStdioDescriptors = 3;
constexpr std::uint32_t kModeBits = 07777;

Status broken(std::string rule) { return fail(Code::kInvalid, "manifest: " + std::move(rule)); }

bool holds_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

Status check_blob_ref(const BlobRef& blob, const std::string& whose) {
    if (blob.size_bytes > kMaxBlobBytes) return broken(whose + ": impossible size");
    if ((blob.size_bytes == 0) != (blob.root == ChunkId{})) {
        return broken(whose + ": size and root contradict each other");
    }
    return {};
}

/// One component of a path that stays where it is put.
bool is_plain_name(std::string_view name) {
    return !name.empty() && name != "." && name != ".." &&
           name.find('/') == std::string_view::npos && !holds_nul(name);
}

/// "" or "a/b/c": relative, never leading out.
bool is_inner_path(std::string_view path) {
    while (!path.empty()) {
        const std::size_t slash = path.find('/');
        if (!is_plain_name(path.substr(0, slash))) return false;
        if (slash == std::string_view::npos) return true;
        path.remove_prefix(slash + 1);
        if (path.empty()) return false;  // A slash at the end.
    }
    return true;
}

Status check_entry(const Layer& layer, const LayerEntry& entry) {
    const std::string whose = "layer " + layer.name + ", \"" + entry.path + "\"";
    if (!is_inner_path(entry.path)) return broken(whose + ": the path leads out of the layer");
    if (entry.type > LayerEntry::Type::kHardLink) return broken(whose + ": no such type");
    if ((entry.mode & ~kModeBits) != 0) return broken(whose + ": impossible mode");
    if (holds_nul(entry.target)) return broken(whose + ": the target holds a NUL byte");
    if (entry.type == LayerEntry::Type::kHardLink &&
        (entry.target.empty() || !is_inner_path(entry.target))) {
        return broken(whose + ": the hard link leads out of the layer");
    }
    if (entry.type != LayerEntry::Type::kFile && entry.content != BlobRef{}) {
        return broken(whose + ": only files have content");
    }
    for (const LayerEntry::Attribute& attribute : entry.attributes) {
        if (attribute.name.empty() || holds_nul(attribute.name)) {
            return broken(whose + ": impossible attribute name");
        }
    }
    return check_blob_ref(entry.content, whose);
}

// Vectors' lengths, strings' lengths and terminators, padding, offsets.
constexpr std::size_t kStringOverhead = 16;
constexpr std::size_t kTableOverhead = 192;

std::size_t bytes_of(std::string_view text) { return text.size() + kStringOverhead; }

}  // namespace

Status check_manifest(const Manifest& manifest) {
    if (holds_nul(manifest.vc_id)) return broken("the name of the computation holds a NUL byte");
    if (manifest.stdio.size() > kStdioDescriptors)
        return broken("more than three stdio descriptors");
    for (const ImageFile& image : manifest.images) {
        if (!is_plain_name(image.name)) {
            return broken("image \"" + image.name + "\": not a plain file name");
        }
        PPDSM_TRY(check_blob_ref(image.content, "image " + image.name));
    }
    for (const Layer& layer : manifest.layers) {
        if (holds_nul(layer.name)) return broken("a layer's name holds a NUL byte");
        for (const LayerEntry& entry : layer.entries) PPDSM_TRY(check_entry(layer, entry));
    }
    for (const MountRecord& mount : manifest.mounts) {
        if (holds_nul(mount.key) || holds_nul(mount.target)) {
            return broken("mount " + mount.key + " holds a NUL byte");
        }
    }
    return {};
}

std::size_t encoded_bytes_at_most(const Manifest& manifest) {
    std::size_t bytes = 2 * kTableOverhead + bytes_of(manifest.vc_id);
    for (const std::string& name : manifest.stdio) bytes += bytes_of(name);
    for (const ImageFile& image : manifest.images) bytes += kTableOverhead + bytes_of(image.name);
    for (const Layer& layer : manifest.layers) {
        bytes += kTableOverhead + bytes_of(layer.name);
        for (const LayerEntry& entry : layer.entries) {
            bytes += kTableOverhead + bytes_of(entry.path) + bytes_of(entry.target);
            for (const LayerEntry::Attribute& attribute : entry.attributes) {
                bytes += kTableOverhead + bytes_of(attribute.name) + bytes_of(attribute.value);
            }
        }
    }
    for (const MountRecord& mount : manifest.mounts) {
        bytes += kTableOverhead + bytes_of(mount.key) + bytes_of(mount.target);
    }
    const HostRecord& host = manifest.host;
    bytes += kTableOverhead + bytes_of(host.criu_version) + bytes_of(host.kernel_release) +
             bytes_of(host.machine);
    for (const std::string& feature : host.cpu_features) bytes += bytes_of(feature);
    return bytes;
}

}  // namespace ppdsm
