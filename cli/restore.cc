// `ppdsm restore`: a copy of a generation goes on as a virtual computer of its own; or just a check
// whether it could.
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "cli/checkpoint_ref.h"
#include "cli/commands.h"
#include "cli/exec.h"
#include "cli/inspect.h"
#include "criu-glue/criu/locate_criu.h"
#include "runtime/peer/export_file.h"
#include "runtime/peer/host_record.h"
#include "runtime/peer/restore_check.h"
#include "runtime/peer/stored_images.h"

namespace ppdsm {

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

struct Options {
    std::string source;
    bool check = false;
    bool json = false;
};

/// The source as a virtual computer of its own: an export file, or a copy made of a generation.
Result<VcPaths> import_copy(const Home& home, const std::string& source) {
    std::error_code error;
    if (fs::is_regular_file(source, error)) return import_generation(home, source);
    PPDSM_ASSIGN(const CheckpointRef found, find_checkpoint(source));
    const fs::path file = home.cache() / fmt::format("copy-{}-{}", found.paths.id(), ::getpid());
    const Status exported = export_generation(found.paths, found.generation, file, {});
    Result<VcPaths> copy = exported ? import_generation(home, file) : fail(exported.error());
    fs::remove(file, error);
    return copy;
}

Result<std::vector<Mismatch>> check(const VcPaths& paths, const VcRecord& record,
                                    const Home& home) {
    PPDSM_ASSIGN(const CommitState commits, CommitLog::read(paths.commits()));
    if (commits.last() == nullptr) return fail(Code::kNotFound, paths.id() + " has no checkpoint");
    PPDSM_ASSIGN(const std::unique_ptr<StoredImages> images,
                 StoredImages::open(paths, *commits.last()));
    const Result<CriuInstallation> criu = locate_criu(home.cache());
    return check_restore(*images, record, describe_host(criu ? criu->version_text : ""));
}

int report_mismatches(const std::vector<Mismatch>& found, bool as_json) {
    bool fatal = false;
    Json list = Json::array();
    for (const Mismatch& mismatch : found) {
        fatal = fatal || mismatch.fatal;
        list.push_back(
            {{"what", mismatch.what}, {"detail", mismatch.detail}, {"fatal", mismatch.fatal}});
        if (!as_json) fmt::print("{}: {}\n", mismatch.what, mismatch.detail);
    }
    if (as_json) fmt::print("{}\n", list.dump(1, ' ', false, Json::error_handler_t::replace));
    if (!as_json && found.empty()) fmt::print("nothing stands against a restore here\n");
    return fatal ? 1 : 0;
}

int run_restore(const Options& options) {
    const Result<Home> home = Home::open();
    if (!home) return report(home.error());
    const Result<VcPaths> copy = import_copy(*home, options.source);
    if (!copy) return report(copy.error());
    const Result<VcRecord> record = read_record(*copy);
    if (!record) return report(record.error());
    const auto found = check(*copy, *record, *home);
    const bool fatal =
        found && std::any_of(found->begin(), found->end(),
                             [](const Mismatch& mismatch) { return mismatch.fatal; });
    if (!found || options.check || fatal) {
        std::error_code ignored;
        fs::remove_all(copy->directory, ignored);
        return found ? report_mismatches(*found, options.json) : report(found.error());
    }
    fmt::print(stderr, "ppdsm: restoring as {}\n", copy->id());
    return resume_attached(*home, *copy, *record);
}

}  // namespace

void add_restore_command(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<Options>();
    CLI::App* restore = app.add_subcommand("restore", "Let a copy of a checkpoint go on");
    restore->add_option("SOURCE", options->source, "VC[@N], or a file of `checkpoint export`")
        ->required();
    restore->add_flag("--check", options->check, "Only say what stands against it");
    restore->add_flag("--json", options->json, "For programs");
    restore->callback([options, &exit_code] { exit_code = run_restore(*options); });
}

}  // namespace ppdsm
