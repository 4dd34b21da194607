// The owner's tree as seen by the merge of a layer: which of its files were changed by others since
// the run began, which names are ours for half-written copies, and removals that spare such
// changes.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "criu-glue/files/layer.h"

namespace ppdsm {

/// Marks the names beside a conflict.
inline constexpr std::string_view kConflictMark = ".ppdsm-conflict";

/// lstat by directory and name; nothing when absent.
Result<std::optional<struct stat>> look_at(int directory_fd, const char* name);

class HomeTree {
public:
    HomeTree(const HomeBaseline& baseline,
             const std::vector<std::pair<std::string, std::int64_t>>& applied, ApplyReport& report);

    /// A node that is no directory counts as changed when its ctime is later than the baseline and
    /// not the one that we left. Directories never do: every child moves their times.
    [[nodiscard]] bool changed(const std::string& path, const struct stat& status) const;

    /// Made or changed by anyone, ourselves included, since the run began.
    [[nodiscard]] bool touched(const struct stat& status) const;

    /// Remembers that this is how we left `path`.
    void left(const std::string& path, const struct stat& status);
    /// Remembers that this directory was not there before us.
    void made_directory(const std::string& path) { applied_[path + "/"] = 0; }
    /// Removes what an earlier apply left and the upper tree has no more: a file that the program
    /// made and removed again leaves no whiteout. What has changed at home since stays.
    Status remove_vanished(int upper_root_fd, int home_root_fd);
    [[nodiscard]] bool left_by_us(const std::string& path, const struct stat& status) const;
    [[nodiscard]] std::vector<std::pair<std::string, std::int64_t>> applied() const;
    /// To be called with a node held by an O_PATH descriptor and its state before, when one of its
    /// names has been taken away by us: that moved the ctime under which its other names are known.
    void name_taken(const OwnedFd& node, const struct stat& before);

    /// The name beside `name` under which its next version is written. The same for every apply of
    /// one run, so that one that was killed is cleaned up by the next, and by no other run's.
    [[nodiscard]] std::string pending_name(std::string_view name) const;
    /// Removes what a killed apply of this run left in the directory.
    Status remove_pending(int directory_fd);

    enum class Spare { kChanged, kNothing };
    /// Removes a node with everything below it; what was changed at home stays (kChanged) and is
    /// reported as a conflict without a second path. True when nothing stayed.
    Result<bool> remove(int directory_fd, const char* name, const std::string& path, Spare spare,
                        int depth = 0);

private:
    Result<bool> remove_directory(int directory_fd, const char* name, const std::string& path,
                                  Spare spare, int depth);

    std::int64_t started_unix_ns_;
    std::unordered_map<std::string, std::int64_t> applied_;  ///< Path -> ctime in ns.
    /// Inode -> the ctime under which its names are known, and what we have made of it since.
    std::unordered_map<ino_t, std::pair<std::int64_t, std::int64_t>> moved_;
    std::string pending_suffix_;
    ApplyReport& report_;
};

/// `stem` + `suffix` within the 255 bytes of a name.
[[nodiscard]] std::string name_with_suffix(std::string_view stem, std::string_view suffix);

}  // namespace ppdsm
