// The manifest of one generation: everything that must come back together, by name. Its bytes are
// FlatBuffers (manifest.fbs; the format's page is criu-glue/IMAGE.md).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "criu-glue/store/blob.h"

namespace ppdsm {

/// One file of CRIU's image directory.
struct ImageFile {
    std::string name;
    BlobRef content;

    bool operator==(const ImageFile&) const = default;
};

/// One file, directory or link of a private layer; see criu-glue/files/layer.h.
struct LayerEntry {
    enum class Type : std::uint8_t {
        kFile,
        kDirectory,
        kSymlink,
        kFifo,
        kSocket,
        kDevice,
        kWhiteout,
        kHardLink
    };
    std::string path;  ///< Relative to the layer's root, no leading slash; "" is the root itself.
    Type type = Type::kFile;
    std::uint32_t mode = 0;  ///< Permission bits with setuid, setgid and sticky.
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime_ns = 0;
    std::uint64_t device = 0;  ///< st_rdev of a kDevice.
    std::string target;        ///< Of a symlink; of a hard link: the path of the first name.
    BlobRef content;           ///< Of a kFile.
    struct Attribute {
        std::string name;
        std::string value;
        bool operator==(const Attribute&) const = default;
    };
    std::vector<Attribute> attributes;  ///< Extended attributes, overlay's own included.

    bool operator==(const LayerEntry&) const = default;
};

struct Layer {
    std::string name;  ///< Which writable place: "tmp", "shm", or the exposed path it lies over.
    std::vector<LayerEntry> entries;  ///< Parents before children, sorted by path.

    bool operator==(const Layer&) const = default;
};

/// The sandbox as it must be made again before CRIU restores into it.
struct MountRecord {
    std::string key;     ///< CRIU's name of the external mount.
    std::string target;  ///< Path inside the sandbox.

    bool operator==(const MountRecord&) const = default;
};

struct HostRecord {
    std::string criu_version;
    std::string kernel_release;
    std::string machine;                    ///< "x86_64"
    std::vector<std::string> cpu_features;  ///< /proc/cpuinfo's flags, sorted.

    bool operator==(const HostRecord&) const = default;
};

struct Manifest {
    std::string vc_id;
    std::uint64_t epoch = 0;
    std::uint64_t generation = 0;
    std::uint64_t predecessor = 0;  ///< 0: none.
    std::int64_t created_unix_ms = 0;
    std::uint32_t pause_us = 0;             ///< CRIU's frozen time.
    std::uint32_t cut_us = 0;               ///< What the file layer and stdio added to it.
    std::uint64_t input_offset_bytes = 0;   ///< Of the input journal: consumed by the program.
    std::uint64_t output_offset_bytes = 0;  ///< Of the output log: written by the program.
    bool terminal = false;                  ///< stdio is a pty whose master CRIU must hand back.
    std::vector<std::string>
        stdio;  ///< CRIU's names of descriptors 0-2, e.g. "pipe:[4711]"; "" none.
    std::vector<ImageFile> images;
    std::vector<Layer> layers;
    std::vector<MountRecord> mounts;
    HostRecord host;
    std::uint64_t bytes_new = 0;    ///< What this generation added to the store.
    std::uint64_t bytes_total = 0;  ///< Sum of the sizes of its blobs.

    bool operator==(const Manifest&) const = default;
};

/// Most bytes of an encoded manifest. FlatBuffers allows 2 GiB; a million layer entries take about
/// 0.2.
inline constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 30;

/// The same manifest gives the same bytes. kInvalid: it breaks a rule that decode_manifest() would
/// enforce (a path that leads out of its layer, ...); kOverloaded: over kMaxManifestBytes.
Result<Bytes> encode_manifest(const Manifest& manifest);
/// Verifies the checksum and every bound before it trusts a field. A newer version is
/// Code::kUnsupported and names both versions.
Result<Manifest> decode_manifest(ByteView bytes);

/// Every blob of the manifest, in order.
void for_each_blob(const Manifest& manifest, const std::function<void(const BlobRef&)>& visit);

}  // namespace ppdsm
