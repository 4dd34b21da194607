// What the root of a sandbox shows at a path that nothing is mounted on. Policy only; the server
// asks (root_server.h).
//
// Shown are the skeleton's directories, links and mount points. Whatever else lies at home is not
// shown, with one exception: a directory shows as one that can be passed but not listed (a
// phantom), so that the path which the program is really after becomes known and can be named. A
// name that the program did not bring along itself is never told, a link at home never followed, a
// file there never opened.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ppdsm {

struct RootNode {
    enum class Kind : std::uint8_t {
        kAbsent,   ///< Neither in the skeleton nor at home; or not the owner's to expose.
        kUnknown,  ///< Not in the skeleton, and home cannot be asked.
        kOwn,      ///< The skeleton's.
        kPhantom,  ///< A directory at home, to pass through.
        kHidden,   ///< Anything else at home: to the program it does not exist.
    };
    Kind kind = Kind::kAbsent;
    /// Of kOwn and kPhantom: what stat(2) shows. Without times: the same in every incarnation.
    struct stat info{};

    [[nodiscard]] bool is_shown() const { return kind == Kind::kOwn || kind == Kind::kPhantom; }
};

struct RootSources {
    std::string skeleton;  ///< Host directory with what is shown.
    /// Absolute paths at home that stay unseen and unnamed with all below.
    std::vector<std::string> private_paths;
    /// Target and source of directories that an overlay shows above the root's at the same place:
    /// what both have is joined, and its listing asked of both.
    std::vector<std::pair<std::string, std::string>> unions;
    /// The directory that is "/" at home; none: home is on another machine.
    std::optional<std::string> home = "";
};

class RootView {
public:
    explicit RootView(RootSources sources) : sources_(std::move(sources)) {}

    /// `path`: absolute inside the sandbox, without "." and "..".
    [[nodiscard]] RootNode find(const std::string& path) const;
    /// The host's path behind a kOwn path.
    [[nodiscard]] std::string source(const std::string& path) const {
        return sources_.skeleton + path;
    }

private:
    [[nodiscard]] bool is_nameless(const std::string& path) const;
    bool find_union(const std::string& path, struct stat& info) const;

    RootSources sources_;
};

/// The machine's own directories, whose files are nobody's to expose: programs look there as a
/// matter of course.
bool is_machine_path(std::string_view path);

/// Inode number of a path: the same in every incarnation. "/" has 1, FUSE's number for the root.
std::uint64_t inode_of(const std::string& path);

}  // namespace ppdsm
