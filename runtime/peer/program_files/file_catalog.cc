#include "runtime/peer/program_files/file_catalog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <set>

#include "runtime/peer/program_files/line_text.h"

namespace ppdsm {

namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;

std::optional<FileId> find(const std::unordered_map<std::string, FileId>& map,
                           const std::string& path) {
    const auto found = map.find(path);
    if (found == map.end()) return {};
    return found->second;
}

}  // namespace

Result<FileCatalog> FileCatalog::open(const std::filesystem::path& file) {
    PPDSM_ASSIGN(OwnedFd fd, open_file(file, O_RDWR | O_CREAT | O_APPEND, 0600));
    FileCatalog catalog(file, std::move(fd));
    PPDSM_ASSIGN(const std::string text, read_text(file, kMostBytes));
    const std::size_t whole_bytes = text.rfind('\n') + 1;  // 0 when there is none.
    PPDSM_ASSIGN(Lines lines, catalog.read_lines(std::string_view(text).substr(0, whole_bytes)));
    catalog.take(std::move(lines));
    if (whole_bytes != text.size() &&
        ::ftruncate(catalog.file_.get(), static_cast<off_t>(whole_bytes)) != 0) {
        return fail_errno("cut " + file.string());
    }
    return catalog;
}

Result<FileCatalog::Lines> FileCatalog::read_lines(std::string_view text) const {
    Lines lines;
    lines.size_bytes = text.size();
    for (std::size_t end = 0; (end = text.find('\n')) != std::string_view::npos;) {
        std::string_view line = text.substr(0, end);
        text.remove_prefix(end + 1);
        const std::string_view kind = take_word(line);
        PPDSM_ASSIGN(const FileId file, FileId::parse(take_word(line)));
        std::uint64_t size_bytes = 0;
        if (kind == "F") {
            const std::string_view size = take_word(line);
            const auto [rest, error] =
                std::from_chars(size.data(), size.data() + size.size(), size_bytes);
            if (error != std::errc() || rest != size.data() + size.size()) {
                return fail(Code::kCorrupt, path_.string() + " is damaged");
            }
        } else if (kind != "L") {
            return fail(Code::kCorrupt, path_.string() + " is damaged");
        }
        (kind == "L" ? lines.listings : lines.contents).emplace(from_line_text(line), file);
    }
    return lines;
}

/// A path that has a name already keeps it.
void FileCatalog::take(Lines lines) {
    listings_.merge(lines.listings);
    contents_.merge(lines.contents);
    size_bytes_ += lines.size_bytes;
}

std::optional<FileId> FileCatalog::listing(const std::string& path) const {
    return find(listings_, path);
}
std::optional<FileId> FileCatalog::content(const std::string& path) const {
    return find(contents_, path);
}

Status FileCatalog::append(const std::string& line) {
    if (Status written = write_all(file_, as_bytes(line)); !written) {
        // Half a line must not become the beginning of the next.
        (void)::ftruncate(file_.get(), static_cast<off_t>(size_bytes_));
        return fail(written.error().within(path_.string()));
    }
    size_bytes_ += line.size();
    return {};
}

Status FileCatalog::add_listing(const std::string& path, FileId listing) {
    if (listings_.contains(path)) return {};
    PPDSM_TRY(append(fmt::format("L {} {}\n", listing.to_string(), to_line_text(path))));
    listings_.emplace(path, listing);
    return {};
}

Status FileCatalog::add_content(const std::string& path, FileId content, std::uint64_t size_bytes) {
    if (contents_.contains(path)) return {};
    PPDSM_TRY(
        append(fmt::format("F {} {} {}\n", content.to_string(), size_bytes, to_line_text(path))));
    contents_.emplace(path, content);
    return {};
}

std::vector<FileId> FileCatalog::contents() const {
    std::set<FileId> all;
    for (const auto& [path, listing] : listings_) all.insert(listing);
    for (const auto& [path, content] : contents_) all.insert(content);
    return {all.begin(), all.end()};
}

Result<Bytes> FileCatalog::bytes_from(std::uint64_t offset_bytes) const {
    if (offset_bytes > size_bytes_) return fail(Code::kInvalid, "the catalog is not that long");
    Bytes bytes(size_bytes_ - offset_bytes);
    PPDSM_TRY(read_exactly_at(file_, bytes, offset_bytes));
    return bytes;
}

Status FileCatalog::append_bytes(std::uint64_t offset_bytes, ByteView bytes) {
    if (offset_bytes != size_bytes_) {
        return fail(Code::kInvalid, fmt::format("the catalog here has {} bytes, not {}",
                                                size_bytes_, offset_bytes));
    }
    if (bytes.empty()) return {};
    if (bytes.back() != '\n') return fail(Code::kCorrupt, "a catalog's line is cut short");
    // All of it counts, or nothing: what is known and what the file says must not differ.
    PPDSM_ASSIGN(Lines lines, read_lines(as_text(bytes)));
    if (Status written = write_all(file_, bytes); !written) {
        (void)::ftruncate(file_.get(), static_cast<off_t>(size_bytes_));
        return fail(written.error().within(path_.string()));
    }
    take(std::move(lines));
    return {};
}

Status FileCatalog::sync() const { return sync_fd(file_); }

}  // namespace ppdsm
