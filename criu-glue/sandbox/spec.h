// What a sandbox consists of, as told to the warden that makes it. Plain data; JSON on the way.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dsm/base/result.h"

namespace ppdsm {

struct SandboxMount {
    enum class Kind : std::uint8_t {
        kReadOnlyBind,
        kBind,
        kOverlay,
        kUnion,  ///< Read-only: `source` above what the sandbox's root has at `target`.
    };
    Kind kind = Kind::kReadOnlyBind;
    std::string
        target;  ///< Absolute path inside the sandbox; its mount point exists in the skeleton.
    std::string source;  ///< Path on the host; of an overlay the lower directory.
    std::string upper;   ///< Of an overlay: private layer.
    std::string work;    ///< Of an overlay: its work directory, same file system as `upper`.

    /// CRIU's key for this mount: stable across restores.
    [[nodiscard]] std::string key() const;
};

struct SandboxSpec {
    std::string skeleton;  ///< Host directory that becomes "/", read-only, with all mount points.
    std::string refusals_log;  ///< Host file that gets what the program asked for in vain.
    std::vector<std::string> private_paths;  ///< Of the host: see RootView.
    std::vector<SandboxMount> mounts;        ///< In mounting order: outer before inner.
    /// Home is elsewhere: these paths of it, with all below, are served at kFilesMount (the sources
    /// of mounts lie there), and nothing of this host is shown or named. Empty: home is here.
    std::vector<std::string> file_roots;
    std::string hostname;
    std::uint32_t uid = 0;  ///< The program's, inside and outside alike.
    std::uint32_t gid = 0;
    bool host_network = false;
    bool terminal = false;
    std::string program;                 ///< Absolute path inside the sandbox.
    std::vector<std::string> arguments;  ///< argv, the zeroth included.
    std::vector<std::string> environment;
    std::string working_directory;
    std::vector<std::string> criu_command;  ///< How to start CRIU, e.g. {"/usr/sbin/criu"}.
    std::vector<std::string> tree_cgroups;  ///< cgroup directories that the tree, not CRIU, enters.
};

std::string encode_spec(const SandboxSpec& spec);
Result<SandboxSpec> decode_spec(std::string_view text);

/// Path of our init inside the skeleton.
inline constexpr const char* kInitPath = "/.ppdsm/init";

}  // namespace ppdsm
