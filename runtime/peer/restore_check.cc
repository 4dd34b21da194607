#include "runtime/peer/restore_check.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <set>

#include "criu-glue/images/process_image.h"
#include "runtime/peer/file_view.h"

namespace ppdsm {

namespace {

/// Whether the path lies in a place whose files come back with the generation.
bool is_private(const Manifest& manifest, const std::string& path) {
    return std::any_of(manifest.layers.begin(), manifest.layers.end(), [&](const Layer& layer) {
        const std::string root = place_target(layer.name) + "/";
        if (!path.starts_with(root)) return false;
        const std::string rest = path.substr(root.size());
        return std::any_of(layer.entries.begin(), layer.entries.end(),
                           [&](const LayerEntry& entry) { return entry.path == rest; });
    });
}

void check_file(const std::string& path, std::optional<std::uint64_t> size_bytes,
                std::vector<Mismatch>& found) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) {
        found.push_back({"path", path + " is not here", true});
    } else if (size_bytes && S_ISREG(info.st_mode) &&
               static_cast<std::uint64_t>(info.st_size) != *size_bytes) {
        found.push_back({"file",
                         fmt::format("{} differs: {} bytes here, {} in the checkpoint", path,
                                     info.st_size, *size_bytes),
                         true});
    }
}

void check_files(const ProcessTree& tree, const Manifest& manifest, std::vector<Mismatch>& found) {
    std::set<std::string> seen;
    const auto check = [&](const std::string& path, std::optional<std::uint64_t> size_bytes) {
        const bool ours =
            path.starts_with("/.ppdsm/") || path.starts_with("/dev/") || path.starts_with("/proc/");
        if (!path.starts_with('/') || ours || is_private(manifest, path)) return;
        if (seen.insert(path).second) check_file(path, size_bytes, found);
    };
    for (const ProcessImage& process : tree.processes) {
        for (const Mapping& mapping : process.mappings) {
            if (mapping.kind == MappingKind::kFile && !mapping.deleted) {
                check(mapping.name, mapping.file_bytes);
            }
        }
        for (const Descriptor& descriptor : process.descriptors) {
            if (descriptor.kind == DescriptorKind::kFile && !descriptor.deleted) {
                check(descriptor.description, descriptor.size_bytes);
            }
        }
    }
}

int major_version(const std::string& version) { return std::atoi(version.c_str()); }

}  // namespace

std::vector<std::string> missing_cpu_features(const HostRecord& there, const HostRecord& here) {
    std::vector<std::string> missing;
    std::set_difference(there.cpu_features.begin(), there.cpu_features.end(),
                        here.cpu_features.begin(), here.cpu_features.end(),
                        std::back_inserter(missing));
    return missing;
}

Result<std::vector<Mismatch>> check_restore(StoredImages& images, const VcRecord& record,
                                            const HostRecord& here) {
    std::vector<Mismatch> found;
    const HostRecord& there = images.manifest().host;
    if (there.machine != here.machine) {
        found.push_back(
            {"machine", fmt::format("made on {}, this is {}", there.machine, here.machine), true});
    }
    if (const auto missing = missing_cpu_features(there, here); !missing.empty()) {
        found.push_back({"cpu", fmt::format("this CPU lacks {}", fmt::join(missing, " ")), true});
    }
    if (here.criu_version.empty()) {
        found.push_back({"criu", "no working CRIU here; `ppdsm doctor` says more", true});
    } else if (major_version(there.criu_version) != major_version(here.criu_version)) {
        found.push_back(
            {"criu",
             fmt::format("made by CRIU {}, here is {}", there.criu_version, here.criu_version),
             false});
    }
    for (const Exposure& exposure : record.exposures) check_file(exposure.path, {}, found);
    check_file(record.working_directory, {}, found);
    PPDSM_ASSIGN(const ProcessTree tree, read_process_tree(images));
    check_files(tree, images.manifest(), found);
    return found;
}

}  // namespace ppdsm
