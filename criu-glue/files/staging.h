// Where the content of changed files waits between a cut and the store: small files in memory,
// larger ones as copies in a directory of our own.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "criu-glue/store/blob.h"
#include "dsm/base/files.h"

namespace ppdsm {

class Staging {
public:
    struct Item {
        const std::uint8_t* memory = nullptr;  ///< Null: the file of this number.
        std::uint64_t size_bytes = 0;
        std::uint32_t number = 0;
    };

    explicit Staging(std::filesystem::path directory) : path_(std::move(directory)) {}

    /// Makes or opens the directory; removes what a killed process left in it.
    Status prepare();
    Result<Item> put(const OwnedFd& file, std::uint64_t size_bytes);
    Result<BlobRef> store(ChunkStore& store, const Item& item);
    void clear();

private:
    static constexpr std::uint64_t kMemoryFileBytes = std::uint64_t{64} << 10;
    static constexpr std::uint64_t kBlockBytes = std::uint64_t{1} << 20;
    static constexpr std::size_t kBlocks = 64;

    /// Null when the budget is used up.
    std::uint8_t* reserve(std::uint64_t size_bytes);

    std::filesystem::path path_;
    OwnedFd directory_;
    std::uint32_t files_ = 0;
    std::vector<std::unique_ptr<std::uint8_t[]>> blocks_;
    std::uint64_t block_used_ = kBlockBytes;
};

}  // namespace ppdsm
