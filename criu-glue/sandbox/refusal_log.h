// What a program asked its sandbox for and did not get, by path: one JSON object a line, appended
// by the servers of the sandbox's root and files, read by the executor when the run has ended.
// Every incarnation appends to the same file. Names only serve their reader: nothing is synced, and
// a full disk costs names, not the run.
//   {"not_exposed": PATH}   exists at home, is not in the sandbox
//   {"absent": PATH}        is not in the sandbox; home, on another machine, could not be asked
//   {"refused_write": PATH} would have been written outside the writable places
//   {"unfetched": PATH, "why": TEXT} is shown, but could not be had from its owner
//   {"more": true}          the bound was reached; what came after is not named
#pragma once

#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Paths as the program sees them: absolute, without symbolic links, each once, in order of time.
struct Refusals {
    std::vector<std::string> not_exposed;
    std::vector<std::string> writes;
    bool more = false;  ///< There were more than are named.
    /// What could not be had from its owner, and why. A path may come again with another reason.
    std::vector<std::pair<std::string, std::string>> unfetched = {};

    [[nodiscard]] bool empty() const {
        return not_exposed.empty() && writes.empty() && unfetched.empty();
    }
};

/// The writer of one incarnation.
class RefusalLog {
public:
    enum class Kind { kNotExposed, kAbsent, kWrite, kUnfetched };
    /// Paths that one incarnation names.
    static constexpr std::size_t kMostPaths = 10'000;

    static Result<RefusalLog> open(const std::filesystem::path& path);
    /// Each path of a kind is written once.
    void note(Kind kind, const std::string& path) { note(kind, path, {}); }
    /// Each path with each reason.
    void note_unfetched(const std::string& path, const std::string& why) {
        note(Kind::kUnfetched, path, why);
    }

private:
    explicit RefusalLog(OwnedFd file) : file_(std::move(file)) {}
    void note(Kind kind, const std::string& path, const std::string& why);
    OwnedFd file_;
    std::set<std::tuple<Kind, std::string, std::string>> noted_;
};

/// Without duplicates. Of the absent paths those count that exist here, `at_home`; but directories
/// of /etc, where programs look as a matter of course, do not. A file that is not there names
/// nothing; lines that a death or a full disk cut short are passed over. A path that was to be
/// written is not named as missing besides.
Refusals read_refusals(const std::filesystem::path& path, bool at_home = true);

}  // namespace ppdsm
