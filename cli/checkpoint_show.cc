// `ppdsm checkpoint show` and `diff`: what a generation holds, and what changed between two.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/checkpoint_ref.h"
#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/inspect.h"
#include "cli/table.h"
#include "criu-glue/images/process_image.h"
#include "dsm/base/byte_text.h"
#include "runtime/peer/control.h"
#include "runtime/peer/stored_images.h"

namespace ppdsm {

namespace {

using Json = nlohmann::json;

std::string printable(const std::string& bytes) {
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        text += byte < 0x20 || byte == 0x7F ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
    }
    return text;
}

std::string command_of(const ProcessImage& process) {
    std::string line;
    for (const std::string& argument : process.arguments)
        line += (line.empty() ? "" : " ") + argument;
    return printable(line.empty() ? "[" + process.comm + "]" : line);
}

Json mapping_json(const Mapping& mapping) {
    return {{"start", fmt::format("{:#x}", mapping.start)},
            {"end", fmt::format("{:#x}", mapping.end)},
            {"kind", mapping_kind_name(mapping.kind)},
            {"protection", mapping.protection},
            {"flags", mapping.flags},
            {"name", bytes_to_utf8(mapping.name)},
            {"deleted", mapping.deleted},
            {"offset", mapping.offset_bytes},
            {"image_bytes", mapping.image_bytes}};
}

Json descriptor_json(const Descriptor& descriptor) {
    Json json = {{"fd", descriptor.fd},
                 {"kind", descriptor_kind_name(descriptor.kind)},
                 {"description", bytes_to_utf8(descriptor.description)},
                 {"state", descriptor.state},
                 {"flags", descriptor.flags},
                 {"deleted", descriptor.deleted}};
    if (descriptor.position) json["position"] = *descriptor.position;
    if (descriptor.size_bytes) json["size"] = *descriptor.size_bytes;
    return json;
}

Json process_json(const ProcessImage& process) {
    Json threads = Json::array();
    for (const ThreadImage& thread : process.threads)
        threads.push_back({{"tid", thread.tid}, {"comm", bytes_to_utf8(thread.comm)}});
    Json mappings = Json::array();
    for (const Mapping& mapping : process.mappings) mappings.push_back(mapping_json(mapping));
    Json descriptors = Json::array();
    for (const Descriptor& descriptor : process.descriptors)
        descriptors.push_back(descriptor_json(descriptor));
    return {{"pid", process.pid},
            {"ppid", process.ppid},
            {"pgid", process.pgid},
            {"sid", process.sid},
            {"state", process_state_name(process.state)},
            {"command", bytes_to_utf8(command_of(process))},
            {"exe", bytes_to_utf8(process.exe)},
            {"cwd", bytes_to_utf8(process.cwd)},
            {"mapped_bytes", process.mapped_bytes()},
            {"image_bytes", process.image_bytes()},
            {"threads", threads},
            {"mappings", mappings},
            {"descriptors", descriptors}};
}

Json files_json(const Manifest& manifest) {
    Json layers = Json::array();
    for (const Layer& layer : manifest.layers) {
        std::uint64_t bytes = 0;
        std::uint64_t files = 0;
        for (const LayerEntry& entry : layer.entries) {
            bytes += entry.content.size_bytes;
            files += entry.type == LayerEntry::Type::kFile ? 1 : 0;
        }
        layers.push_back({{"place", bytes_to_utf8(layer.name)},
                          {"entries", layer.entries.size()},
                          {"files", files},
                          {"bytes", bytes}});
    }
    return layers;
}

Json show_json(const CheckpointRef& found, const Manifest& manifest, const ProcessTree& tree) {
    Json processes = Json::array();
    for (const ProcessImage& process : tree.processes) processes.push_back(process_json(process));
    Json pipes = Json::array();
    const auto ends = [](const std::vector<PipeEnd>& all) {
        Json list = Json::array();
        for (const PipeEnd& end : all) list.push_back({{"pid", end.pid}, {"fd", end.fd}});
        return list;
    };
    for (const PipeImage& pipe : tree.pipes) {
        pipes.push_back({{"id", pipe.id},
                         {"path", bytes_to_utf8(pipe.path)},
                         {"readers", ends(pipe.readers)},
                         {"writers", ends(pipe.writers)},
                         {"buffered", pipe.buffered_bytes}});
    }
    Json json = to_json(found.generation);
    json["id"] = found.paths.id();
    json["epoch"] = manifest.epoch;
    json["predecessor"] = manifest.predecessor;
    json["criu"] = manifest.host.criu_version;
    json["kernel"] = manifest.host.kernel_release;
    json["machine"] = manifest.host.machine;
    json["cpu_features"] = manifest.host.cpu_features;
    json["output_bytes"] = manifest.output_offset_bytes;
    json["input_bytes"] = manifest.input_offset_bytes;
    json["processes"] = processes;
    json["pipes"] = pipes;
    json["files"] = files_json(manifest);
    json["totals"] = {
        {"processes", tree.totals.processes},     {"threads", tree.totals.threads},
        {"descriptors", tree.totals.descriptors}, {"mapped_bytes", tree.totals.mapped_bytes},
        {"page_bytes", tree.totals.page_bytes},   {"image_bytes", tree.totals.image_bytes}};
    return json;
}

/// Memory by what it is: the many mappings of one library are one row.
void print_memory(const ProcessImage& process) {
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> by_name;
    for (const Mapping& mapping : process.mappings) {
        const std::string name = mapping.name.empty() ? std::string(mapping_kind_name(mapping.kind))
                                                      : printable(mapping.name);
        by_name[name].first += mapping.size_bytes();
        by_name[name].second += mapping.image_bytes;
    }
    Table table({"  MEMORY", "MAPPED>", "IN CHECKPOINT>"});
    for (const auto& [name, sizes] : by_name) {
        table.add({"  " + name, format_bytes(sizes.first), format_bytes(sizes.second)});
    }
    table.print();
}

void print_process(const ProcessImage& process) {
    fmt::print("\nprocess {} (parent {}, session {}, {} threads, {}): {}\n", process.pid,
               process.ppid, process.sid, process.threads.size(), process_state_name(process.state),
               command_of(process));
    if (process.mappings.empty()) return;
    print_memory(process);
    if (process.descriptors.empty()) return;
    Table table({"  FD>", "KIND", "WHAT", "POSITION>"});
    for (const Descriptor& descriptor : process.descriptors) {
        table.add({std::to_string(descriptor.fd),
                   std::string(descriptor_kind_name(descriptor.kind)),
                   printable(descriptor.description) + (descriptor.deleted ? " (deleted)" : "") +
                       (descriptor.state.empty() ? "" : ", " + descriptor.state),
                   descriptor.position ? std::to_string(*descriptor.position) : ""});
    }
    table.print();
}

int run_show(const std::string& reference, bool as_json) {
    const Result<CheckpointRef> found = find_checkpoint(reference);
    if (!found) return report(found.error());
    const auto images = StoredImages::open(found->paths, found->generation);
    if (!images) return report(images.error());
    const Result<ProcessTree> tree = read_process_tree(**images);
    if (!tree) return report(tree.error());
    const Manifest& manifest = (*images)->manifest();
    if (as_json) {
        fmt::print(
            "{}\n",
            show_json(*found, manifest, *tree).dump(1, ' ', false, Json::error_handler_t::replace));
        return 0;
    }
    fmt::print("{}@{}: pause {:.1f} ms, cut {:.1f} ms; {} in all, {} new\n", found->paths.id(),
               found->generation.generation, found->generation.pause_us / 1000.0,
               found->generation.cut_us / 1000.0, format_bytes(found->generation.bytes_total),
               format_bytes(found->generation.bytes_new));
    fmt::print("made by CRIU {} on Linux {} ({}, {} CPU features)\n", manifest.host.criu_version,
               manifest.host.kernel_release, manifest.host.machine,
               manifest.host.cpu_features.size());
    for (const Json& layer : files_json(manifest)) {
        if (layer["entries"].get<std::size_t>() <= 1) continue;
        fmt::print("private files of {}: {} in {}\n", layer["place"].get<std::string>(),
                   layer["files"].get<std::uint64_t>(),
                   format_bytes(layer["bytes"].get<std::uint64_t>()));
    }
    for (const ProcessImage& process : tree->processes) print_process(process);
    return 0;
}

}  // namespace

void add_show_commands(CLI::App& checkpoint, int& exit_code) {
    struct Options {
        std::string first;
        std::string second;
        bool json = false;
    };
    auto options = std::make_shared<Options>();
    CLI::App* show = checkpoint.add_subcommand("show", "What a checkpoint holds");
    show->add_option("CHECKPOINT", options->first, "VC[@N]")->required();
    show->add_flag("--json", options->json, "For programs");
    show->callback([options, &exit_code] { exit_code = run_show(options->first, options->json); });

    CLI::App* diff = checkpoint.add_subcommand("diff", "What changed between two checkpoints");
    diff->add_option("FROM", options->first, "VC@N")->required();
    diff->add_option("TO", options->second, "VC[@N]")->required();
    diff->add_flag("--json", options->json, "For programs");
    diff->callback([options, &exit_code] {
        exit_code = run_diff(options->first, options->second, options->json);
    });
}

}  // namespace ppdsm
