// The executor's writes at home: when the run has ended, or after every generation with --files
// commit. Then the program sees its own files in the directory below its layer, so that a directory
// which it made is kept apart from the copy at home (overlay's "opaque"): it would not be renamed
// otherwise.
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

#include "dsm/base/byte_text.h"
#include "runtime/peer/executor.h"
#include "runtime/peer/fault_point.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

void add_report(ApplyReport& total, const ApplyReport& some) {
    const auto add = [](auto& all, const auto& more) {
        for (const auto& entry : more) {
            if (std::find(all.begin(), all.end(), entry) == all.end()) all.push_back(entry);
        }
    };
    add(total.written, some.written);
    add(total.removed, some.removed);
    add(total.conflicts, some.conflicts);
    add(total.skipped, some.skipped);
}

HomeBaseline baseline_of(const VcRecord& record) {
    return HomeBaseline::at(record.created_unix_ms * 1'000'000);
}

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
        if (!place.applied || was_killed) continue;
        PPDSM_ASSIGN(const ApplyReport report,
                     apply_layer(place.upper, place.target, baseline_of(setup_.record),
                                 applied_[place.name]));
        add_report(applied_report_, report);
    }
    fault_point("applied");
    PPDSM_TRY(commits_.note_applied());
    // A leftover is cleared by the next start or by `ppdsm rm`.
    (void)remove_tree(setup_.paths.run());
    return applied_report_;
}

/// From the store, since the layers on the disk are already ahead of the generation. When it
/// returns, home holds the generation, and what was left there is remembered.
Status Executor::apply_generation(const GenerationRecord& record) {
    PPDSM_ASSIGN(const Manifest manifest, checkpointer_->load(record));
    for (const WritablePlace& place : view_.places) {
        if (place.applied) PPDSM_TRY(apply_place(place, manifest));
    }
    fault_point("files-written");
    return save_applied();
}

Status Executor::apply_place(const WritablePlace& place, const Manifest& manifest) {
    const std::filesystem::path directory = setup_.paths.run() / "homeward";
    PPDSM_TRY(remove_tree(directory));
    PPDSM_TRY(checkpointer_->restore_layer_to(manifest, place.name, directory));
    for (const Layer& layer : manifest.layers) {
        if (layer.name == place.name) keep_apart(layer, place);
    }
    fault_point("files-staged");
    PPDSM_ASSIGN(
        const ApplyReport report,
        apply_layer(directory, place.target, baseline_of(setup_.record), applied_[place.name]));
    add_report(applied_report_, report);
    return remove_tree(directory);
}

Status Executor::save_applied() const {
    Json places = Json::object();
    for (const auto& [name, left] : applied_) {
        Json& list = places[bytes_to_utf8(name)] = Json::array();
        for (const auto& [path, ctime_ns] : left) list.push_back({bytes_to_utf8(path), ctime_ns});
    }
    return replace_file(setup_.paths.applied(), as_bytes(places.dump() + "\n"), 0600);
}

Status Executor::load_applied() {
    const Result<std::string> text = read_text(setup_.paths.applied());
    if (!text && text.error().code() == Code::kNotFound) return {};
    if (!text) return fail(text.error());
    try {
        const Json places = Json::parse(*text);  // items() only refers to it.
        for (const auto& [name, list] : places.items()) {
            auto& left = applied_[utf8_to_bytes(name)];
            for (const Json& entry : list) {
                left.emplace_back(utf8_to_bytes(entry.at(0).get<std::string>()),
                                  entry.at(1).get<std::int64_t>());
            }
        }
    } catch (const Json::exception& bad) {
        return fail(Code::kCorrupt, setup_.paths.applied().string() + ": " + bad.what());
    }
    return {};
}

}  // namespace ppdsm
