#include "cli/refusal_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "criu-glue/sandbox/root_view.h"
#include "runtime/peer/file_view.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMostLines = 10;
constexpr std::size_t kFewOfOneDirectory = 2;  ///< More are named by their directory.

bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("/._-+=:,@%").find(c) != std::string_view::npos;
}
/// Beyond ASCII too: some of it controls terminals, in UTF-8 as in older codes.
bool is_control(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < ' ' || byte >= 0x7F;
}

/// As a shell takes it; a name of the program's choice must not reach a terminal raw.
std::string shell_word(const std::string& text) {
    if (std::all_of(text.begin(), text.end(), is_plain)) return text;
    const bool has_control = std::any_of(text.begin(), text.end(), is_control);
    std::string word = has_control ? "$'" : "'";
    for (const char c : text) {
        if (is_control(c)) {
            word += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else if (has_control && (c == '\'' || c == '\\')) {
            word += std::string("\\") + c;
        } else if (c == '\'') {
            word += "'\\''";
        } else {
            word += c;
        }
    }
    return word + "'";
}

/// Words for people that may hold a name of the program's choice.
std::string printable(std::string text) {
    std::replace_if(text.begin(), text.end(), is_control, '?');
    return text;
}

/// Paths that one option would give, or a single one.
struct Group {
    std::string place;
    std::size_t paths = 0;  ///< 0: `place` is the path itself.
    std::string exposure;   ///< Argument of --expose; empty: none is advised.
};

std::string line_of(const Group& group) {
    std::string line = "  " + shell_word(group.place);
    if (group.paths > 0) line += fmt::format(" ({} paths)", group.paths);
    if (!group.exposure.empty()) line += "   --expose " + shell_word(group.exposure);
    return line;
}

bool may_be_advised(const fs::path& place, std::uint32_t uid) {
    return !is_too_wide(place, uid) && !is_machine_path(place.native());
}

/// The directory that would have to be writable; empty when none is there that may be advised.
std::string directory_for_write(const std::string& path, std::uint32_t uid) {
    std::error_code error;
    fs::path directory = fs::path(path).parent_path();
    while (directory != "/" && !fs::is_directory(directory, error)) {
        directory = directory.parent_path();
    }
    return may_be_advised(directory, uid) ? directory.string() : "";
}

/// `directory_of`: what would be exposed for several; empty: each stands for itself.
/// `exposure_of`: what would be exposed for one. `suffix`: of exposures.
template <typename DirectoryOf, typename ExposureOf>
std::vector<Group> group(const std::vector<std::string>& paths, const std::string& suffix,
                         DirectoryOf directory_of, ExposureOf exposure_of) {
    std::map<std::string, std::size_t> counts;
    for (const std::string& path : paths) ++counts[directory_of(path)];
    std::vector<Group> groups;
    for (const std::string& path : paths) {
        const std::string directory = directory_of(path);
        std::size_t& count = counts[directory];
        if (directory.empty() || count <= kFewOfOneDirectory) {
            const std::string exposure = exposure_of(path);
            groups.push_back({path, 0, exposure.empty() ? "" : exposure + suffix});
        } else if (const bool is_first = std::none_of(
                       groups.begin(), groups.end(),
                       [&](const Group& g) { return g.paths > 0 && g.place == directory; });
                   is_first) {
            groups.push_back({directory, count, directory + suffix});
        }
    }
    return groups;
}

void add_section(std::vector<std::string>& lines, const std::string& title, std::size_t paths,
                 const std::vector<Group>& groups, const Refusals& refusals, const Advice& advice) {
    if (groups.empty()) return;
    lines.push_back(fmt::format("{} ({}{}):", title, paths, refusals.more ? " and more" : ""));
    for (std::size_t i = 0; i < std::min(groups.size(), kMostLines); ++i) {
        lines.push_back(line_of(groups[i]));
    }
    if (groups.size() > kMostLines) {
        lines.push_back(
            fmt::format("  and {} more: see {}", groups.size() - kMostLines, advice.log.string()));
    }
}

/// Not refused, but not to be had either: nothing is advised.
void add_unfetched(std::vector<std::string>& lines, const Refusals& refusals,
                   const Advice& advice) {
    const auto& unfetched = refusals.unfetched;
    if (unfetched.empty()) return;
    lines.push_back(fmt::format("could not be fetched from their owner ({}):", unfetched.size()));
    for (std::size_t i = 0; i < std::min(unfetched.size(), kMostLines); ++i) {
        const auto& [path, why] = unfetched[i];
        lines.push_back("  " + shell_word(path) + ": " + printable(why));
    }
    if (unfetched.size() > kMostLines) {
        lines.push_back(fmt::format("  and {} more: see {}", unfetched.size() - kMostLines,
                                    advice.log.string()));
    }
}

}  // namespace

std::vector<std::string> describe_refusals(const Refusals& refusals, const Advice& advice) {
    const auto parent_of = [&](const std::string& path) {
        const fs::path parent = fs::path(path).parent_path();
        return may_be_advised(parent, advice.uid) ? parent.string() : std::string();
    };
    const auto itself = [&](const std::string& path) {
        return may_be_advised(path, advice.uid) ? path : std::string();
    };
    const auto for_write = [&](const std::string& path) {
        return directory_for_write(path, advice.uid);
    };
    std::vector<std::string> lines;
    add_section(lines, "not exposed, though asked for", refusals.not_exposed.size(),
                group(refusals.not_exposed, "", parent_of, itself), refusals, advice);
    add_section(lines, "writes refused outside the writable places", refusals.writes.size(),
                group(refusals.writes, ":rw", for_write, for_write), refusals, advice);
    add_unfetched(lines, refusals, advice);
    return lines;
}

}  // namespace ppdsm
