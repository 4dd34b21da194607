// Finds a CRIU that works on this machine. Looked at in this order: $PPDSM_CRIU (then no other is),
// the prefix of ci/install-criu.sh for all users (/opt/ppdsm-criu), that of this user
// (${XDG_DATA_HOME:-~/.local/share}/ppdsm/criu), and `criu` in PATH and /usr/sbin. The first that
// passes `criu check` is taken: a CRIU that starts may still be unable to dump on this kernel.
//
// `criu check` costs tens of milliseconds, a noticeable part of a short run. The answer is
// therefore kept in "criu-found" of the state directory, under a key of everything that could
// change it: the candidates with sizes and modification times, kernel, user and capabilities. Only
// success is kept, so that a repair shows at once; a damaged or foreign answer is ignored and
// replaced.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dsm/base/result.h"

namespace ppdsm {

struct CriuInstallation {
    std::filesystem::path path;        ///< The executable, to name to people.
    std::vector<std::string> command;  ///< How to start it, to which CRIU's arguments are added.
    int version = 0;                   ///< 4.1.1 is 40101, as in CRIU's own protocol.
    std::string version_text;          ///< "4.1.1"
    bool unprivileged = false;  ///< Runs only with --unprivileged, in a user namespace of ours.
};

/// An empty `state_dir` means: do not use or keep an answer, look. kNotFound: no CRIU is there;
/// kUnsupported: those that are there do not work here, each named with CRIU's reason.
Result<CriuInstallation> locate_criu(const std::filesystem::path& state_dir);

/// The version in what `criu --version` printed.
struct CriuVersion {
    int number = 0;
    std::string text;
};
Result<CriuVersion> parse_criu_version(std::string_view output);

/// How to start the CRIU at `path`: as the file "command" beside it says (one argument a line,
/// written by ci/install-criu.sh, spares the wrapper's shell), or else by its path.
std::vector<std::string> criu_command(const std::filesystem::path& path);

}  // namespace ppdsm
