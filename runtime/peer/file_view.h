// What a program sees of the file system: the system's read-only directories, what its owner
// exposed, and private writable layers over its working directory, /tmp and /dev/shm. Built afresh
// for each incarnation under the VC's run directory.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "criu-glue/sandbox/spec.h"
#include "dsm/base/result.h"
#include "runtime/peer/home.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

/// A writable place: what the program writes there lands in `upper`.
struct WritablePlace {
    std::string name;    ///< "tmp", "shm", or the path at home.
    std::string target;  ///< Path inside the sandbox.
    std::filesystem::path upper;
    std::filesystem::path staging;
    bool applied = false;  ///< Its content is written home when the run ends.
};

/// Where in the sandbox the place of that name is.
std::string place_target(const std::string& name);

struct FileView {
    std::filesystem::path skeleton;
    std::vector<SandboxMount> mounts;
    std::vector<WritablePlace> places;
};

/// Plans the view; creates directories only below the VC's run directory and the home's cache.
/// `init_executable`: our init, copied into the skeleton. kInvalid: an exposure that cannot be.
Result<FileView> build_file_view(const VcRecord& record, const VcPaths& paths, const Home& home,
                                 const std::filesystem::path& init_executable);

/// Refuses what would be a surprise (the whole home directory as a writable place), before anything
/// is made. `record.exposures` decides whether it was asked for.
Status check_working_directory(const VcRecord& record);

/// By their names alone.
bool is_within(const std::filesystem::path& path, const std::filesystem::path& directory);
/// Of the directories that every program sees.
bool is_system_path(const std::filesystem::path& path);

/// A place whose exposure as a whole would surprise its owner: nothing advises it.
bool is_too_wide(const std::filesystem::path& path, std::uint32_t uid);

/// After the places' contents are in place: makes the mount points that lie inside them.
Status make_mount_points(const FileView& view);

}  // namespace ppdsm
