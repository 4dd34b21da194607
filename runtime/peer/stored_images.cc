#include "runtime/peer/stored_images.h"

#include "runtime/peer/checkpointer.h"

namespace ppdsm {

Result<std::unique_ptr<StoredImages>> StoredImages::open(const VcPaths& paths,
                                                         const GenerationRecord& record) {
    PPDSM_ASSIGN(std::unique_ptr<ChunkStore> store,
                 ChunkStore::open(paths.chunks(), ChunkStore::Mode::kRead));
    PPDSM_ASSIGN(Manifest manifest, load_manifest(paths, record));
    return std::unique_ptr<StoredImages>(new StoredImages(std::move(store), std::move(manifest)));
}

StoredImages::StoredImages(std::unique_ptr<ChunkStore> store, Manifest manifest)
    : store_(std::move(store)), manifest_(std::move(manifest)) {
    for (const ImageFile& image : manifest_.images) images_.emplace(image.name, image.content);
}

Result<BlobRef> StoredImages::find(const std::string& name) const {
    const auto image = images_.find(name);
    if (image == images_.end()) return fail(Code::kNotFound, "the generation has no image " + name);
    return image->second;
}

Result<Bytes> StoredImages::load(const std::string& name) {
    PPDSM_ASSIGN(const BlobRef blob, find(name));
    return load_blob(*store_, blob, kMaxLoadedImageBytes);
}

Result<std::uint64_t> StoredImages::size(const std::string& name) {
    PPDSM_ASSIGN(const BlobRef blob, find(name));
    return blob.size_bytes;
}

Status StoredImages::read(const std::string& name, std::uint64_t offset_bytes,
                          std::span<std::uint8_t> into) {
    PPDSM_ASSIGN(const BlobRef blob, find(name));
    if (offset_bytes > blob.size_bytes || into.size() > blob.size_bytes - offset_bytes) {
        return fail(Code::kCorrupt, name + " ends early");
    }
    return read_blob_range(*store_, blob, offset_bytes, into);
}

std::vector<std::string> StoredImages::names() {
    std::vector<std::string> names;
    for (const auto& [name, blob] : images_) names.push_back(name);
    return names;
}

}  // namespace ppdsm
