// The executor's writes at home, when it runs where home is: when the run has ended, or after every
// generation with --files commit. Then the program sees its own files in the directory below its
// layer, so that a directory which it made is kept apart from the copy at home (overlay's
// "opaque"): it would not be renamed otherwise.
#include <sys/stat.h>
#include <sys/xattr.h>

#include "runtime/peer/executor.h"
#include "runtime/peer/fault_point.h"

namespace ppdsm {

namespace {

/// Directories of the layer that home does not have.
void keep_apart(const Layer& layer, const WritablePlace& place) {
    const char* attribute = ::geteuid() == 0 ? "trusted.overlay.opaque" : "user.overlay.opaque";
    for (const LayerEntry& entry : layer.entries) {
        if (entry.type != LayerEntry::Type::kDirectory || entry.path.empty()) continue;
        struct stat info{};
        if (::lstat((place.target + "/" + entry.path).c_str(), &info) == 0) continue;
        // The program may have removed it again: then there is nothing to keep apart.
        (void)::lsetxattr((place.upper / entry.path).c_str(), attribute, "y", 1, 0);
    }
}

}  // namespace

/// From the layers on the disk, which outlive a killed executor; running it again changes nothing
/// more.
Result<ApplyReport> Executor::apply_files(bool was_killed) {
    if (commits_.state().applied) return ApplyReport{};
    if (view_.places.empty()) {
        PPDSM_ASSIGN(view_, build_file_view(setup_.record, setup_.paths, home_,
                                            setup_.libexec / "ppdsm-init"));
    }
    for (const WritablePlace& place : view_.places) {
        if (place.applied && !was_killed) PPDSM_TRY(home_files_.write(place.name, place.upper));
    }
    fault_point("applied");
    PPDSM_TRY(commits_.note_applied());
    // A leftover is cleared by the next start or by `ppdsm rm`.
    (void)remove_tree(setup_.paths.run());
    return home_files_.report();
}

/// From the store, since the layers on the disk are already ahead of the generation. When it
/// returns, home holds the generation, and what was left there is remembered.
Status Executor::apply_generation(const GenerationRecord& record) {
    PPDSM_ASSIGN(const Manifest manifest, checkpointer_->load(record));
    for (const WritablePlace& place : view_.places) {
        if (place.applied) PPDSM_TRY(apply_place(place, manifest));
    }
    fault_point("files-written");
    return home_files_.save();
}

Status Executor::apply_place(const WritablePlace& place, const Manifest& manifest) {
    const std::filesystem::path directory = setup_.paths.run() / "homeward";
    PPDSM_TRY(remove_tree(directory));
    PPDSM_TRY(checkpointer_->restore_layer_to(manifest, place.name, directory));
    for (const Layer& layer : manifest.layers) {
        if (layer.name == place.name) keep_apart(layer, place);
    }
    fault_point("files-staged");
    PPDSM_TRY(home_files_.write(place.name, directory));
    return remove_tree(directory);
}

}  // namespace ppdsm
