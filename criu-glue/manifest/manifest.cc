#include "criu-glue/manifest/manifest.h"

#include <xxhash.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

#include "criu-glue/manifest/manifest_rules.h"
#include "criu-glue/store/pack_format.h"
#include "dsm/base/check.h"
#include "dsm/base/table_bounds.h"
#include "manifest_generated.h"

namespace ppdsm {

namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using pack::append_number;
using pack::number_at;

constexpr std::string_view kMagic = "PPDSMMAN";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kReservedAt = 12;
constexpr std::size_t kLengthAt = 16;
constexpr std::size_t kChecksumAt = 24;
constexpr std::size_t kHeaderBytes = 32;

/// Of everything but the checksum itself.
std::uint64_t checksum_of(ByteView file) {
    const std::uint64_t of_header = XXH3_64bits(file.data(), kChecksumAt);
    const ByteView payload = file.subspan(kHeaderBytes);
    return XXH3_64bits_withSeed(payload.data(), payload.size(), of_header);
}

fb::Blob to_fb(const BlobRef& blob) {
    return {blob.size_bytes, fb::ChunkName(flatbuffers::make_span(blob.root.bytes))};
}

BlobRef from_fb(const fb::Blob* blob) {
    BlobRef result;
    if (blob == nullptr) return result;
    result.size_bytes = blob->size_bytes();
    std::memcpy(result.root.bytes.data(), blob->root().bytes()->Data(), result.root.bytes.size());
    return result;
}

std::string text_of(const flatbuffers::String* text) {
    return text == nullptr ? std::string() : text->str();
}

/// Each element of a vector that may be absent.
template <typename Vector, typename Visit>
void each(const Vector* vector, Visit visit) {
    if (vector == nullptr) return;
    for (flatbuffers::uoffset_t i = 0; i < vector->size(); ++i) visit(vector->Get(i));
}

Offset<fb::LayerEntry> encode_entry(FlatBufferBuilder& out, const LayerEntry& entry) {
    std::vector<Offset<fb::Attribute>> attributes;
    attributes.reserve(entry.attributes.size());
    for (const LayerEntry::Attribute& attribute : entry.attributes) {
        const auto name = out.CreateString(attribute.name);
        const ByteView value = as_bytes(attribute.value);
        attributes.push_back(
            fb::CreateAttribute(out, name, out.CreateVector(value.data(), value.size())));
    }
    const auto path = out.CreateString(entry.path);
    // Most entries have neither: a layer of a million files is worth the branch.
    const auto target = entry.target.empty() ? 0 : out.CreateString(entry.target);
    const auto attribute_vector = attributes.empty() ? 0 : out.CreateVector(attributes);
    const fb::Blob content = to_fb(entry.content);
    return fb::CreateLayerEntry(out, path, static_cast<fb::EntryType>(entry.type), entry.mode,
                                entry.uid, entry.gid, entry.mtime_ns, entry.device, target,
                                entry.content == BlobRef{} ? nullptr : &content, attribute_vector);
}

Offset<fb::Layer> encode_layer(FlatBufferBuilder& out, const Layer& layer) {
    std::vector<Offset<fb::LayerEntry>> entries;
    entries.reserve(layer.entries.size());
    for (const LayerEntry& entry : layer.entries) entries.push_back(encode_entry(out, entry));
    const auto name = out.CreateString(layer.name);
    return fb::CreateLayer(out, name, out.CreateVector(entries));
}

Offset<fb::Host> encode_host(FlatBufferBuilder& out, const HostRecord& host) {
    const auto criu_version = out.CreateString(host.criu_version);
    const auto kernel_release = out.CreateString(host.kernel_release);
    const auto machine = out.CreateString(host.machine);
    return fb::CreateHost(out, criu_version, kernel_release, machine,
                          out.CreateVectorOfStrings(host.cpu_features));
}

void encode_payload(FlatBufferBuilder& out, const Manifest& manifest) {
    std::vector<Offset<fb::ImageFile>> images;
    for (const ImageFile& image : manifest.images) {
        const auto name = out.CreateString(image.name);
        const fb::Blob content = to_fb(image.content);
        images.push_back(fb::CreateImageFile(out, name, &content));
    }
    std::vector<Offset<fb::Layer>> layers;
    layers.reserve(manifest.layers.size());
    for (const Layer& layer : manifest.layers) layers.push_back(encode_layer(out, layer));
    std::vector<Offset<fb::Mount>> mounts;
    for (const MountRecord& mount : manifest.mounts) {
        const auto key = out.CreateString(mount.key);
        mounts.push_back(fb::CreateMount(out, key, out.CreateString(mount.target)));
    }
    // One statement each: the order in which arguments are evaluated is the compiler's, and with it
    // the bytes would be.
    const auto vc_id = out.CreateString(manifest.vc_id);
    const auto stdio = out.CreateVectorOfStrings(manifest.stdio);
    const auto image_vector = out.CreateVector(images);
    const auto layer_vector = out.CreateVector(layers);
    const auto mount_vector = out.CreateVector(mounts);
    const auto host = encode_host(out, manifest.host);
    out.Finish(fb::CreateManifest(
        out, vc_id, manifest.epoch, manifest.generation, manifest.predecessor,
        manifest.created_unix_ms, manifest.pause_us, manifest.cut_us, manifest.input_offset_bytes,
        manifest.output_offset_bytes, manifest.terminal, stdio, image_vector, layer_vector,
        mount_vector, host, manifest.bytes_new, manifest.bytes_total));
}

LayerEntry decode_entry(const fb::LayerEntry& from) {
    LayerEntry entry;
    entry.path = from.path()->str();
    entry.type = static_cast<LayerEntry::Type>(from.type());
    entry.mode = from.mode();
    entry.uid = from.uid();
    entry.gid = from.gid();
    entry.mtime_ns = from.mtime_ns();
    entry.device = from.device();
    entry.target = text_of(from.target());
    entry.content = from_fb(from.content());
    each(from.attributes(), [&](const fb::Attribute* attribute) {
        LayerEntry::Attribute& added = entry.attributes.emplace_back();
        added.name = attribute->name()->str();
        if (const auto* const value = attribute->value()) {
            added.value.assign(as_text({value->data(), value->size()}));
        }
    });
    return entry;
}

HostRecord decode_host(const fb::Host& from) {
    HostRecord host;
    host.criu_version = text_of(from.criu_version());
    host.kernel_release = text_of(from.kernel_release());
    host.machine = text_of(from.machine());
    each(from.cpu_features(),
         [&](const flatbuffers::String* feature) { host.cpu_features.push_back(feature->str()); });
    return host;
}

Manifest decode_payload(const fb::Manifest& from) {
    Manifest manifest;
    manifest.vc_id = from.vc_id()->str();
    manifest.epoch = from.epoch();
    manifest.generation = from.generation();
    manifest.predecessor = from.predecessor();
    manifest.created_unix_ms = from.created_unix_ms();
    manifest.pause_us = from.pause_us();
    manifest.cut_us = from.cut_us();
    manifest.input_offset_bytes = from.input_offset_bytes();
    manifest.output_offset_bytes = from.output_offset_bytes();
    manifest.terminal = from.terminal();
    each(from.stdio(),
         [&](const flatbuffers::String* name) { manifest.stdio.push_back(name->str()); });
    each(from.images(), [&](const fb::ImageFile* image) {
        manifest.images.push_back({image->name()->str(), from_fb(image->content())});
    });
    each(from.layers(), [&](const fb::Layer* layer) {
        Layer& added = manifest.layers.emplace_back();
        added.name = layer->name()->str();
        each(layer->entries(),
             [&](const fb::LayerEntry* entry) { added.entries.push_back(decode_entry(*entry)); });
    });
    each(from.mounts(), [&](const fb::Mount* mount) {
        manifest.mounts.push_back({mount->key()->str(), mount->target()->str()});
    });
    manifest.host = decode_host(*from.host());
    manifest.bytes_new = from.bytes_new();
    manifest.bytes_total = from.bytes_total();
    return manifest;
}

/// The header keeps its meaning in every version, so that a changed byte is never taken for a newer
/// version.
Status check_envelope(ByteView bytes) {
    if (bytes.size() < kHeaderBytes || as_text(bytes.first(kMagic.size())) != kMagic) {
        return fail(Code::kCorrupt, "manifest: the header is cut off or not a manifest's");
    }
    if (bytes.size() > kMaxManifestBytes) {
        return fail(Code::kCorrupt, "manifest: impossible size " + std::to_string(bytes.size()));
    }
    const auto length_bytes = number_at<std::uint64_t>(bytes, kLengthAt);
    if (length_bytes != bytes.size() - kHeaderBytes) {
        return fail(Code::kCorrupt, "manifest: has " + std::to_string(bytes.size() - kHeaderBytes) +
                                        " bytes instead of " + std::to_string(length_bytes));
    }
    if (number_at<std::uint64_t>(bytes, kChecksumAt) != checksum_of(bytes)) {
        return fail(Code::kCorrupt, "manifest: bytes differ from their checksum");
    }
    const auto version = number_at<std::uint32_t>(bytes, kVersionAt);
    if (version > kVersion) {
        return fail(Code::kUnsupported, "manifest version " + std::to_string(version) +
                                            " is newer than version " + std::to_string(kVersion) +
                                            ", the newest this ppdsm reads; use a newer ppdsm");
    }
    if (version != kVersion || number_at<std::uint32_t>(bytes, kReservedAt) != 0) {
        return fail(Code::kCorrupt, "manifest: no such version, or reserved bytes are set");
    }
    return {};
}

}  // namespace

Result<Bytes> encode_manifest(const Manifest& manifest) {
    PPDSM_TRY(check_manifest(manifest));
    // Before building: the builder stops the process at its own bound.
    if (kHeaderBytes + encoded_bytes_at_most(manifest) > kMaxManifestBytes) {
        return fail(Code::kOverloaded,
                    "manifest: the private layers name more files than a checkpoint can hold; let "
                    "the program write fewer, or expose their directory read-write");
    }
    FlatBufferBuilder out;
    encode_payload(out, manifest);
    PPDSM_CHECK(kHeaderBytes + out.GetSize() <= kMaxManifestBytes);
    Bytes bytes(kMagic.begin(), kMagic.end());
    append_number(bytes, kVersion);
    append_number(bytes, std::uint32_t{0});
    append_number(bytes, std::uint64_t{out.GetSize()});
    append_number(bytes, std::uint64_t{0});
    bytes.insert(bytes.end(), out.GetBufferPointer(), out.GetBufferPointer() + out.GetSize());
    const std::uint64_t checksum = checksum_of(bytes);
    std::memcpy(bytes.data() + kChecksumAt, &checksum, sizeof checksum);
    return bytes;
}

Result<Manifest> decode_manifest(ByteView bytes) {
    PPDSM_TRY(check_envelope(bytes));
    // FlatBuffers reads numbers in place: the copy has the alignment that the view may not have.
    const Bytes payload(bytes.begin() + kHeaderBytes, bytes.end());
    // A checksum is no signature. An honest buffer has no more tables than fit side by side, at 8
    // bytes each or more, and nothing in it is named twice.
    constexpr flatbuffers::uoffset_t kMaxDepth = 16;
    const auto max_tables = static_cast<flatbuffers::uoffset_t>(payload.size() / 8 + 1);
    flatbuffers::Verifier verifier(payload.data(), payload.size(), kMaxDepth, max_tables);
    if (!verifier.VerifyBuffer<fb::Manifest>(nullptr)) {
        return fail(Code::kCorrupt, "manifest: offsets lead out of its bytes");
    }
    if (!names_all_once(*flatbuffers::GetRoot<flatbuffers::Table>(payload.data()),
                        *fb::Manifest::MiniReflectTypeTable(), payload.size())) {
        return fail(Code::kCorrupt, "manifest: names the same bytes again and again");
    }
    Manifest manifest = decode_payload(*flatbuffers::GetRoot<fb::Manifest>(payload.data()));
    if (Status sound = check_manifest(manifest); !sound) {
        return fail(Code::kCorrupt, sound.error().what());
    }
    return manifest;
}

void for_each_blob(const Manifest& manifest, const std::function<void(const BlobRef&)>& visit) {
    for (const ImageFile& image : manifest.images) visit(image.content);
    for (const Layer& layer : manifest.layers) {
        for (const LayerEntry& entry : layer.entries) {
            if (entry.type == LayerEntry::Type::kFile) visit(entry.content);
        }
    }
}

}  // namespace ppdsm
