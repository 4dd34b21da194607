// `ppdsm checkpoint create|list|verify|export|import|rm`: generations as things to keep and carry.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/checkpoint_ref.h"
#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/inspect.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "runtime/peer/checkpointer.h"
#include "runtime/peer/control.h"
#include "runtime/peer/export_file.h"
#include "runtime/peer/stored_images.h"

namespace ppdsm {

namespace {

using Json = nlohmann::json;

std::string format_time(std::int64_t unix_ms) {
    const std::time_t seconds = unix_ms / 1000;
    return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(seconds));
}

int run_create(const std::string& vc, bool as_json) {
    const Result<Home> home = Home::open();
    if (!home) return report(home.error());
    const Result<VcPaths> paths = home->find(vc);
    if (!paths) return report(paths.error());
    const Result<Json> answer = ask_executor(*paths, {{"do", "checkpoint"}});
    if (!answer) return report(answer.error());
    if (as_json) {
        fmt::print("{}\n", answer->dump(1));
    } else {
        fmt::print("{}@{}  pause {:.1f} ms  {} new of {}\n", paths->id(),
                   (*answer)["generation"].get<std::uint64_t>(),
                   (*answer)["pause_ms"].get<double>(),
                   format_bytes((*answer)["bytes_new"].get<std::uint64_t>()),
                   format_bytes((*answer)["bytes_total"].get<std::uint64_t>()));
    }
    return 0;
}

int run_list(const std::string& vc, bool as_json) {
    const Result<Home> home = Home::open();
    if (!home) return report(home.error());
    std::vector<VcPaths> all;
    if (vc.empty()) {
        all = home->list();
    } else {
        const Result<VcPaths> paths = home->find(vc);
        if (!paths) return report(paths.error());
        all.push_back(*paths);
    }
    Json list = Json::array();
    Table table({"CHECKPOINT", "TIME", "PAUSE>", "CUT>", "NEW>", "TOTAL>"});
    int exit_code = 0;
    for (const VcPaths& paths : all) {
        const Result<CommitState> commits = CommitLog::read(paths.commits());
        if (!commits) {
            exit_code = report(commits.error());
            continue;
        }
        for (const GenerationRecord& record : commits->generations) {
            const std::string name = fmt::format("{}@{}", paths.id(), record.generation);
            Json json = to_json(record);
            json["checkpoint"] = name;
            list.push_back(std::move(json));
            table.add({name, format_time(record.unix_ms),
                       fmt::format("{:.1f} ms", record.pause_us / 1000.0),
                       fmt::format("{:.1f} ms", record.cut_us / 1000.0),
                       format_bytes(record.bytes_new), format_bytes(record.bytes_total)});
        }
    }
    if (as_json) {
        fmt::print("{}\n", list.dump(1));
    } else {
        table.print();
    }
    return exit_code;
}

/// Everything that a VC's generations need, and every byte that its store holds.
Result<Json> verify_vc(const VcPaths& paths) {
    PPDSM_ASSIGN(const OwnedFd pin, pin_generations(paths));
    PPDSM_ASSIGN(const CommitState commits, CommitLog::read(paths.commits()));
    PPDSM_ASSIGN(const std::unique_ptr<ChunkStore> store,
                 ChunkStore::open(paths.chunks(), ChunkStore::Mode::kRead));
    Json problems = Json::array();
    std::map<ChunkId, std::set<std::string>> users;
    for (const GenerationRecord& record : commits.generations) {
        const std::string name = fmt::format("{}@{}", paths.id(), record.generation);
        const Result<Manifest> manifest = load_manifest(paths, record);
        if (!manifest) {
            problems.push_back({{"where", name}, {"what", manifest.error().message()}});
            continue;
        }
        const auto check = [&](const std::string& owner, const BlobRef& blob) {
            const Status checked =
                check_blob(*store, blob, [&](const ChunkId& id, const Error& error) {
                    if (users[id].insert(name).second) {
                        problems.push_back(
                            {{"where", name + " " + owner}, {"what", error.message()}});
                    }
                });
            if (!checked)
                problems.push_back(
                    {{"where", name + " " + owner}, {"what", checked.error().message()}});
        };
        for (const ImageFile& image : manifest->images) check(image.name, image.content);
        for (const Layer& layer : manifest->layers) {
            for (const LayerEntry& entry : layer.entries) {
                if (entry.type == LayerEntry::Type::kFile)
                    check(layer.name + "/" + entry.path, entry.content);
            }
        }
    }
    ProgressLine progress("verifying " + paths.id());
    PPDSM_ASSIGN(const std::vector<ChunkStore::Damage> damage,
                 store->verify([&](std::uint64_t done, std::uint64_t total) {
                     progress.update(done, total);
                 }));
    for (const ChunkStore::Damage& each : damage) {
        problems.push_back({{"where", each.pack.filename().string()}, {"what", each.what}});
    }
    return problems;
}

int run_verify(const std::string& vc, bool as_json) {
    const Result<Home> home = Home::open();
    if (!home) return report(home.error());
    const Result<VcPaths> paths = home->find(vc);
    if (!paths) return report(paths.error());
    const Result<Json> problems = verify_vc(*paths);
    if (!problems) return report(problems.error());
    if (as_json) {
        fmt::print("{}\n", Json{{"id", paths->id()}, {"problems", *problems}}.dump(1));
    } else if (problems->empty()) {
        fmt::print("{}: every byte is as it was written\n", paths->id());
    } else {
        for (const Json& problem : *problems) {
            fmt::print("{}: {}\n", problem["where"].get<std::string>(),
                       problem["what"].get<std::string>());
        }
    }
    return problems->empty() ? 0 : 1;
}

int run_export(const std::string& reference, const std::string& file) {
    const Result<CheckpointRef> found = find_checkpoint(reference);
    if (!found) return report(found.error());
    ProgressLine progress("exporting " + reference);
    const Status exported = export_generation(
        found->paths, found->generation, std::filesystem::absolute(file),
        [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); });
    return exported ? 0 : report(exported.error());
}

int run_import(const std::string& file) {
    const Result<Home> home = Home::open();
    if (!home) return report(home.error());
    const Result<VcPaths> imported = import_generation(*home, file);
    if (!imported) return report(imported.error());
    fmt::print("{}\n", imported->id());
    return 0;
}

int run_checkpoint_rm(const std::string& reference) {
    Result<CheckpointRef> found = find_checkpoint(reference);
    if (!found) return report(found.error());
    found->pin.reset();
    const Result<OwnedFd> lock = lock_vc(found->paths);
    if (!lock) return report(lock.error());
    const auto remove = [&]() -> Status {
        PPDSM_ASSIGN(CommitLog log, CommitLog::open(found->paths.commits()));
        PPDSM_ASSIGN(OutputLog output, OutputLog::open(found->paths.output(), true));
        PPDSM_ASSIGN(const std::unique_ptr<Checkpointer> checkpointer,
                     Checkpointer::open(found->paths, log, output, {}));
        return checkpointer->drop(found->generation.generation);
    };
    const Status removed = remove();
    return removed ? 0 : report(removed.error());
}

struct Options {
    std::string reference;
    std::string file;
    bool json = false;
};

}  // namespace

void add_checkpoint_commands(CLI::App& checkpoint, int& exit_code) {
    auto options = std::make_shared<Options>();
    const auto add_reference = [&](CLI::App* command, const char* help, bool required) {
        command->add_option("CHECKPOINT", options->reference, help)->required(required);
    };
    const auto add_json = [&](CLI::App* command) {
        command->add_flag("--json", options->json, "For programs");
    };

    CLI::App* create = checkpoint.add_subcommand("create", "Make a checkpoint now");
    add_reference(create, "VC", true);
    add_json(create);
    create->callback(
        [options, &exit_code] { exit_code = run_create(options->reference, options->json); });

    CLI::App* list = checkpoint.add_subcommand("list", "List checkpoints");
    add_reference(list, "VC; all when left out", false);
    add_json(list);
    list->callback(
        [options, &exit_code] { exit_code = run_list(options->reference, options->json); });

    CLI::App* verify =
        checkpoint.add_subcommand("verify", "Read every byte and name what is wrong");
    add_reference(verify, "VC", true);
    add_json(verify);
    verify->callback(
        [options, &exit_code] { exit_code = run_verify(options->reference, options->json); });

    CLI::App* exported = checkpoint.add_subcommand("export", "Write a checkpoint into one file");
    add_reference(exported, "VC[@N]", true);
    exported->add_option("FILE", options->file)->required();
    exported->callback(
        [options, &exit_code] { exit_code = run_export(options->reference, options->file); });

    CLI::App* import = checkpoint.add_subcommand(
        "import", "Make an exported checkpoint resumable here; prints its id");
    import->add_option("FILE", options->file)->required();
    import->callback([options, &exit_code] { exit_code = run_import(options->file); });

    CLI::App* rm =
        checkpoint.add_subcommand("rm", "Remove one checkpoint of an ended or interrupted program");
    add_reference(rm, "VC@N", true);
    rm->callback([options, &exit_code] { exit_code = run_checkpoint_rm(options->reference); });
}

}  // namespace ppdsm
