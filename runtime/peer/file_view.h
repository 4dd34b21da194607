// What a program sees of the file system: the system's read-only directories, what its owner
// exposed, and private writable layers over its working directory, /tmp and /dev/shm. Built afresh
// for each incarnation under the VC's run directory, from a plan (view_plan.h): at home with home's
// own paths, elsewhere with those at which the sandbox's file server shows them.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "criu-glue/sandbox/spec.h"
#include "dsm/base/result.h"
#include "runtime/peer/home.h"
#include "runtime/peer/vc_record.h"
#include "runtime/peer/view_plan.h"

namespace ppdsm {

/// A writable place: what the program writes there lands in `upper`.
struct WritablePlace {
    std::string name;    ///< "tmp", "shm", "link", or the path at home.
    std::string target;  ///< Path inside the sandbox.
    std::filesystem::path upper;
    std::filesystem::path staging;
    bool applied = false;  ///< Its content is written home when the run ends.
};

/// What a virtual thread's process has besides its files: where its link page lies, and the library
/// that is preloaded into it.
inline constexpr const char* kLinkDirectory = "/.ppdsm/link";
inline constexpr const char* kLinkPage = "/.ppdsm/link/page";
inline constexpr const char* kRuntimePath = "/.ppdsm/libppdsm-runtime.so";

/// Where in the sandbox the place of that name is.
std::string place_target(const std::string& name);

struct FileView {
    std::filesystem::path skeleton;
    std::vector<SandboxMount> mounts;
    std::vector<WritablePlace> places;
    // Of a program whose home is elsewhere only:
    std::string source_prefix;            ///< Before the target it is the source of a root's mount.
    std::vector<std::string> file_roots;  ///< What the file server shows.
    std::set<std::string> file_targets;   ///< Of these, those that are no directories.
};

/// Makes directories below the VC's run directory. `init_executable`: our init, copied into the
/// skeleton. `source_prefix`: where the file server's mount is (kFilesMount), so that none of the
/// plan's sources need to exist here and none is looked at; empty: home is here.
Result<FileView> build_file_view(const ViewPlan& plan, const VcPaths& paths,
                                 const std::filesystem::path& init_executable,
                                 const std::string& source_prefix);
/// Plans and builds at home. kInvalid: an exposure that cannot be.
Result<FileView> build_file_view(const VcRecord& record, const VcPaths& paths, const Home& home,
                                 const std::filesystem::path& init_executable);

/// Refuses what would be a surprise (the whole home directory as a writable place), before anything
/// is made. `record.exposures` decides whether it was asked for.
Status check_working_directory(const VcRecord& record);

/// A place whose exposure as a whole would surprise its owner: nothing advises it.
bool is_too_wide(const std::filesystem::path& path, std::uint32_t uid);

/// By their names alone.
bool is_within(const std::filesystem::path& path, const std::filesystem::path& directory);
std::string home_directory_of(std::uint32_t uid);
/// What every sandbox's root has, by absolute path inside.
const std::vector<std::string>& skeleton_directories();

/// After the places' contents are in place: makes the mount points that lie inside them.
Status make_mount_points(const FileView& view);

}  // namespace ppdsm
