#include "criu-glue/images/image_source.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <system_error>

namespace ppdsm {

Result<Bytes> DirectorySource::load(const std::string& name) {
    return read_file(directory_ / name, kMaxLoadedImageBytes);
}

Result<std::uint64_t> DirectorySource::size(const std::string& name) {
    std::error_code failure;
    const std::uintmax_t bytes = std::filesystem::file_size(directory_ / name, failure);
    if (failure) {
        return fail(Error::from_errno("size of " + (directory_ / name).string(), failure.value()));
    }
    return bytes;
}

Status DirectorySource::read(const std::string& name, std::uint64_t offset_bytes,
                             std::span<std::uint8_t> into) {
    if (name != open_name_ || !open_file_.valid()) {
        PPDSM_ASSIGN(open_file_, open_file(directory_ / name, O_RDONLY));
        open_name_ = name;
    }
    const Status status = read_exactly_at(open_file_, into, offset_bytes);
    if (!status) return fail(status.error().within(name));
    return {};
}

std::vector<std::string> DirectorySource::names() {
    std::vector<std::string> names;
    std::error_code failure;
    std::filesystem::directory_iterator entry(directory_, failure);
    for (; !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure)) {
        if (entry->is_regular_file(failure)) names.push_back(entry->path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
}

Result<Bytes> load_image(ImageSource& source, const std::string& name) {
    PPDSM_ASSIGN(const std::uint64_t bytes, source.size(name));
    if (bytes > kMaxLoadedImageBytes) {
        return fail(Code::kCorrupt,
                    fmt::format("{} has {} bytes; no sound image of its kind has more than {}",
                                name, bytes, kMaxLoadedImageBytes));
    }
    return source.load(name);
}

Result<std::optional<Bytes>> load_optional_image(ImageSource& source, const std::string& name) {
    Result<Bytes> bytes = load_image(source, name);
    if (bytes) return std::optional<Bytes>(*std::move(bytes));
    if (bytes.error().code() == Code::kNotFound) return std::optional<Bytes>();
    return fail(bytes.error());
}

}  // namespace ppdsm
