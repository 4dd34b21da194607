// What a program asked its sandbox for and did not get, by path: one JSON object a line, appended
// by the server of the sandbox's root, read by the executor when the run has ended. Every
// incarnation appends to the same file. Names only serve their reader: nothing is synced, and a
// full disk costs names, not the run.
//   {"not_exposed": PATH}   exists at home, is not in the sandbox
//   {"refused_write": PATH} would have been written outside the writable places
//   {"more": true}          the bound was reached; what came after is not named
#pragma once

#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
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

    [[nodiscard]] bool empty() const { return not_exposed.empty() && writes.empty(); }
};

/// The writer of one incarnation.
class RefusalLog {
public:
    enum class Kind { kNotExposed, kWrite };
    /// Paths that one incarnation names.
    static constexpr std::size_t kMostPaths = 10'000;

    static Result<RefusalLog> open(const std::filesystem::path& path);
    /// Each path of a kind is written once.
    void note(Kind kind, const std::string& path);

private:
    explicit RefusalLog(OwnedFd file) : file_(std::move(file)) {}
    OwnedFd file_;
    std::set<std::pair<Kind, std::string>> noted_;
};

/// Without duplicates. A file that is not there names nothing; lines that a death or a full disk
/// cut short are passed over. A path that was to be written is not named as missing besides.
Refusals read_refusals(const std::filesystem::path& path);

}  // namespace ppdsm
