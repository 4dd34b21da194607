// `ppdsm checkpoint diff`: what changed between two generations.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "cli/checkpoint_ref.h"
#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/inspect.h"
#include "cli/table.h"
#include "criu-glue/images/tree_diff.h"
#include "dsm/base/byte_text.h"
#include "runtime/peer/stored_images.h"

namespace ppdsm {

namespace {

using Json = nlohmann::json;

Json pages_json(const PageCounts& pages) {
    return {{"changed", pages.changed},
            {"added", pages.added},
            {"removed", pages.removed},
            {"unchanged", pages.unchanged}};
}

std::string pages_text(const PageCounts& pages) {
    return fmt::format("{} changed, {} added, {} removed, {} unchanged", pages.changed, pages.added,
                       pages.removed, pages.unchanged);
}

std::string descriptor_text(const std::optional<Descriptor>& descriptor) {
    if (!descriptor) return "-";
    std::string text =
        std::string(descriptor_kind_name(descriptor->kind)) + " " + descriptor->description;
    if (descriptor->position) text += " at " + std::to_string(*descriptor->position);
    if (!descriptor->state.empty()) text += ", " + descriptor->state;
    return text;
}

std::string mapping_text(const MappingDiff& mapping) {
    const Mapping& shown = mapping.after ? *mapping.after : *mapping.before;
    const std::string name =
        shown.name.empty() ? std::string(mapping_kind_name(shown.kind)) : shown.name;
    const char* change = !mapping.before ? " (new)" : !mapping.after ? " (gone)" : "";
    return fmt::format("{:#x}-{:#x} {} {}{}", shown.start, shown.end, shown.protection, name,
                       change);
}

Json process_json(const ProcessDiff& process) {
    Json fields = Json::array();
    for (const FieldChange& field : process.fields) {
        fields.push_back({{"field", field.field},
                          {"before", bytes_to_utf8(field.before)},
                          {"after", bytes_to_utf8(field.after)}});
    }
    Json mappings = Json::array();
    for (const MappingDiff& mapping : process.mappings) {
        mappings.push_back({{"mapping", bytes_to_utf8(mapping_text(mapping))},
                            {"pages", pages_json(mapping.pages)}});
    }
    Json descriptors = Json::array();
    for (const DescriptorDiff& descriptor : process.descriptors) {
        descriptors.push_back({{"fd", descriptor.fd},
                               {"before", bytes_to_utf8(descriptor_text(descriptor.before))},
                               {"after", bytes_to_utf8(descriptor_text(descriptor.after))}});
    }
    return {{"pid", process.pid},
            {"comm", bytes_to_utf8(process.comm)},
            {"pages", pages_json(process.pages)},
            {"fields", fields},
            {"mappings", mappings},
            {"descriptors", descriptors}};
}

/// Private files: added, removed and changed ones, by place and path.
Json layers_json(const Manifest& before, const Manifest& after) {
    const auto index = [](const Manifest& manifest) {
        std::map<std::string, const LayerEntry*> entries;
        for (const Layer& layer : manifest.layers) {
            for (const LayerEntry& entry : layer.entries)
                entries[layer.name + "/" + entry.path] = &entry;
        }
        return entries;
    };
    const auto old_entries = index(before);
    const auto new_entries = index(after);
    Json changes = Json::array();
    for (const auto& [path, entry] : new_entries) {
        const auto old = old_entries.find(path);
        if (old == old_entries.end()) {
            changes.push_back({{"path", bytes_to_utf8(path)},
                               {"change", "added"},
                               {"bytes", entry->content.size_bytes}});
        } else if (!(old->second->content == entry->content)) {
            changes.push_back({{"path", bytes_to_utf8(path)},
                               {"change", "changed"},
                               {"bytes", entry->content.size_bytes}});
        }
    }
    for (const auto& [path, entry] : old_entries) {
        if (!new_entries.contains(path))
            changes.push_back({{"path", bytes_to_utf8(path)}, {"change", "removed"}});
    }
    return changes;
}

Json diff_json(const TreeDiff& diff, const Json& layers) {
    const auto names = [](const std::vector<ProcessName>& all) {
        Json list = Json::array();
        for (const ProcessName& name : all)
            list.push_back({{"pid", name.pid}, {"comm", bytes_to_utf8(name.comm)}});
        return list;
    };
    Json common = Json::array();
    for (const ProcessDiff& process : diff.common) common.push_back(process_json(process));
    return {{"pages", pages_json(diff.pages)},
            {"page_bytes", diff.page_bytes},
            {"added", names(diff.added)},
            {"removed", names(diff.removed)},
            {"common", common},
            {"files", layers}};
}

void print_diff(const TreeDiff& diff, const Json& layers) {
    fmt::print("pages: {} ({} changed or new)\n", pages_text(diff.pages),
               format_bytes((diff.pages.changed + diff.pages.added) * diff.page_bytes));
    for (const ProcessName& name : diff.added)
        fmt::print("process {} ({}) is new\n", name.pid, name.comm);
    for (const ProcessName& name : diff.removed)
        fmt::print("process {} ({}) has ended\n", name.pid, name.comm);
    for (const ProcessDiff& process : diff.common) {
        if (!process.differs()) continue;
        fmt::print("process {} ({}): {}\n", process.pid, process.comm, pages_text(process.pages));
        for (const FieldChange& field : process.fields) {
            fmt::print("  {}: {} -> {}\n", field.field, field.before, field.after);
        }
        for (const MappingDiff& mapping : process.mappings) {
            fmt::print("  {}: {}\n", mapping_text(mapping), pages_text(mapping.pages));
        }
        for (const DescriptorDiff& descriptor : process.descriptors) {
            fmt::print("  fd {}: {} -> {}\n", descriptor.fd, descriptor_text(descriptor.before),
                       descriptor_text(descriptor.after));
        }
    }
    for (const Json& change : layers) {
        fmt::print("file {}: {}\n", change["path"].get<std::string>(),
                   change["change"].get<std::string>());
    }
}

}  // namespace

int run_diff(const std::string& from, const std::string& to, bool as_json) {
    const Result<CheckpointRef> first = find_checkpoint(from);
    if (!first) return report(first.error());
    const Result<CheckpointRef> second = find_checkpoint(to);
    if (!second) return report(second.error());
    const auto before = StoredImages::open(first->paths, first->generation);
    if (!before) return report(before.error());
    const auto after = StoredImages::open(second->paths, second->generation);
    if (!after) return report(after.error());
    const Result<TreeDiff> diff = diff_trees(**before, **after);
    if (!diff) return report(diff.error());
    const Json layers = layers_json((*before)->manifest(), (*after)->manifest());
    if (as_json) {
        fmt::print("{}\n",
                   diff_json(*diff, layers).dump(1, ' ', false, Json::error_handler_t::replace));
    } else {
        print_diff(*diff, layers);
    }
    return 0;
}

}  // namespace ppdsm
