#include "runtime/peer/program_files/path_index.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "runtime/peer/program_files/line_text.h"

namespace ppdsm {

namespace {

constexpr std::uint64_t kMostIndexBytes = std::uint64_t{256} << 20;
/// More are not remembered.
constexpr std::size_t kMostPaths = 500'000;

std::string line_of(const std::string& owner, const std::string& path, FileId listing) {
    return fmt::format("L {} {} {}\n", owner, listing.to_string(), to_line_text(path));
}

std::string line_of(const std::string& owner, const std::string& path, const FileVersion& version,
                    FileId content) {
    return fmt::format("C {} {} {} {} {} {}\n", owner, version.size_bytes, version.mtime_ns,
                       version.ctime_ns, content.to_string(), to_line_text(path));
}

template <typename Number>
bool parse(std::string_view text, Number& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

struct PathIndex::Log {
    OwnedFd file;
    std::string unwritten;
    bool is_busy = false;
};

Result<std::unique_ptr<PathIndex>> PathIndex::open(Loop& loop, const std::filesystem::path& file) {
    auto log = std::make_shared<Log>();
    std::unique_ptr<PathIndex> index(new PathIndex(loop, log));
    const Result<std::string> text = read_text(file, kMostIndexBytes);
    std::size_t lines = 0;
    bool is_torn = !text && text.error().code() != Code::kNotFound;
    if (text) {
        std::string_view rest = *text;
        for (std::size_t end = 0; (end = rest.find('\n')) != std::string_view::npos; ++lines) {
            index->take_line(rest.substr(0, end));
            rest.remove_prefix(end + 1);
        }
        is_torn = !rest.empty();
    }
    const std::size_t live = index->listings_.size() + index->contents_.size();
    if (is_torn || lines > 2 * live + 1000) {
        PPDSM_TRY(replace_file(file, as_bytes(index->all_lines()), 0600));
    }
    PPDSM_ASSIGN(log->file, open_file(file, O_WRONLY | O_CREAT | O_APPEND, 0600));
    return index;
}

void PathIndex::take_line(std::string_view line) {
    const std::string_view kind = take_word(line);
    const std::string owner(take_word(line));
    if (kind == "L") {
        const Result<FileId> listing = FileId::parse(take_word(line));
        if (listing) listings_.insert_or_assign({owner, from_line_text(line)}, *listing);
    } else if (kind == "C") {
        FileVersion version;
        const bool is_sound = parse(take_word(line), version.size_bytes) &&
                              parse(take_word(line), version.mtime_ns) &&
                              parse(take_word(line), version.ctime_ns);
        const Result<FileId> content = FileId::parse(take_word(line));
        if (!is_sound || !content) return;
        contents_.insert_or_assign({owner, from_line_text(line)}, std::pair{version, *content});
    }
}

std::string PathIndex::all_lines() const {
    std::string lines;
    for (const auto& [key, listing] : listings_) lines += line_of(key.first, key.second, listing);
    for (const auto& [key, seen] : contents_) {
        lines += line_of(key.first, key.second, seen.first, seen.second);
    }
    return lines;
}

std::optional<FileId> PathIndex::listing(const std::string& owner, const std::string& path) const {
    const auto found = listings_.find({owner, path});
    if (found == listings_.end()) return {};
    return found->second;
}

void PathIndex::put_listing(const std::string& owner, const std::string& path, FileId listing) {
    const auto found = listings_.find({owner, path});
    if (found != listings_.end() && found->second == listing) return;
    if (found == listings_.end() && listings_.size() >= kMostPaths) return;
    listings_.insert_or_assign({owner, path}, listing);
    append(line_of(owner, path, listing));
}

std::optional<FileId> PathIndex::content(const std::string& owner, const std::string& path,
                                         const FileVersion& version) const {
    const auto found = contents_.find({owner, path});
    if (found == contents_.end() || found->second.first != version) return {};
    return found->second.second;
}

void PathIndex::put_content(const std::string& owner, const std::string& path,
                            const FileVersion& version, FileId content) {
    const auto found = contents_.find({owner, path});
    if (found != contents_.end() && found->second == std::pair{version, content}) return;
    if (found == contents_.end() && contents_.size() >= kMostPaths) return;
    contents_.insert_or_assign({owner, path}, std::pair{version, content});
    append(line_of(owner, path, version, content));
}

void PathIndex::append(std::string line) {
    log_->unwritten += line;
    if (std::exchange(log_->is_busy, true)) return;
    // One job at a time; what comes meanwhile goes with the next. A write that fails costs a
    // question later.
    struct Writer {
        static void write(Loop& loop, const std::shared_ptr<Log>& log) {
            auto lines = std::make_shared<const std::string>(std::exchange(log->unwritten, {}));
            loop.offload([log, lines] { (void)write_all(log->file, as_bytes(*lines)); },
                         [&loop, log] {
                             log->is_busy = !log->unwritten.empty();
                             if (log->is_busy) write(loop, log);
                         });
        }
    };
    Writer::write(loop_, log_);
}

}  // namespace ppdsm
