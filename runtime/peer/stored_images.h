// CRIU's images of one generation, read out of the chunk store.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "criu-glue/images/image_source.h"
#include "criu-glue/manifest/manifest.h"
#include "criu-glue/store/chunk_store.h"
#include "runtime/peer/commit_log.h"
#include "runtime/peer/home.h"

namespace ppdsm {

/// A generation opened for reading; another process may go on writing newer ones.
class StoredImages final : public ImageSource {
public:
    static Result<std::unique_ptr<StoredImages>> open(const VcPaths& paths,
                                                      const GenerationRecord& record);

    [[nodiscard]] const Manifest& manifest() const { return manifest_; }
    [[nodiscard]] ChunkStore& store() { return *store_; }

    Result<Bytes> load(const std::string& name) override;
    Result<std::uint64_t> size(const std::string& name) override;
    Status read(const std::string& name, std::uint64_t offset_bytes,
                std::span<std::uint8_t> into) override;
    std::vector<std::string> names() override;

private:
    StoredImages(std::unique_ptr<ChunkStore> store, Manifest manifest);
    Result<BlobRef> find(const std::string& name) const;

    std::unique_ptr<ChunkStore> store_;
    Manifest manifest_;
    std::map<std::string, BlobRef> images_;
};

}  // namespace ppdsm
