// Where the bytes of a checkpoint's CRIU images come from: the chunk store, or a plain directory.
// Readers of this room load small images whole and page images piece by piece.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Names are CRIU's file names ("mm-1.img"). A name that is not there is Code::kNotFound. Not for
/// several threads at once.
class ImageSource {
public:
    ImageSource() = default;
    ImageSource(const ImageSource&) = delete;
    ImageSource& operator=(const ImageSource&) = delete;
    virtual ~ImageSource() = default;

    virtual Result<Bytes> load(const std::string& name) = 0;
    virtual Result<std::uint64_t> size(const std::string& name) = 0;
    /// Fills all of `into`; an image that ends before is Code::kCorrupt.
    virtual Status read(const std::string& name, std::uint64_t offset_bytes,
                        std::span<std::uint8_t> into) = 0;
    virtual std::vector<std::string> names() = 0;
};

/// The images as CRIU wrote them.
class DirectorySource final : public ImageSource {
public:
    explicit DirectorySource(std::filesystem::path directory) : directory_(std::move(directory)) {}

    Result<Bytes> load(const std::string& name) override;
    Result<std::uint64_t> size(const std::string& name) override;
    Status read(const std::string& name, std::uint64_t offset_bytes,
                std::span<std::uint8_t> into) override;
    std::vector<std::string> names() override;

private:
    std::filesystem::path directory_;
    std::string open_name_;  ///< Page images are read in many pieces: the last one stays open.
    OwnedFd open_file_;
};

/// Images over this size that should be loaded whole are refused as corrupt.
inline constexpr std::uint64_t kMaxLoadedImageBytes = std::uint64_t{256} << 20;

/// load() with that bound.
Result<Bytes> load_image(ImageSource& source, const std::string& name);
/// The same; none when there is no such image, for those that CRIU writes only when needed.
Result<std::optional<Bytes>> load_optional_image(ImageSource& source, const std::string& name);

}  // namespace ppdsm
