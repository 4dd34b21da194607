#include "criu-glue/sandbox/spec.h"

#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"

namespace ppdsm {

using Json = nlohmann::json;

std::string SandboxMount::key() const {
    std::string key = "ppdsm";
    for (const char c : target) key += c == '/' || c == ':' || c == '[' || c == ']' ? '.' : c;
    return key;
}

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SandboxMount, kind, target, source, upper, work)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SandboxSpec, skeleton, refusals_log, private_paths, mounts,
                                   file_roots, hostname, uid, gid, host_network, terminal, program,
                                   arguments, environment, working_directory, criu_command,
                                   tree_cgroups)

namespace {

template <std::string (*Convert)(const std::string&)>
void convert_strings(SandboxSpec& spec) {
    for (std::string* text :
         {&spec.skeleton, &spec.refusals_log, &spec.program, &spec.working_directory}) {
        *text = Convert(*text);
    }
    for (std::vector<std::string>* list :
         {&spec.private_paths, &spec.file_roots, &spec.arguments, &spec.environment,
          &spec.criu_command, &spec.tree_cgroups}) {
        for (std::string& text : *list) text = Convert(text);
    }
    for (SandboxMount& mount : spec.mounts) {
        for (std::string* text : {&mount.target, &mount.source, &mount.upper, &mount.work}) {
            *text = Convert(*text);
        }
    }
}

}  // namespace

std::string encode_spec(const SandboxSpec& spec) {
    SandboxSpec wide = spec;
    convert_strings<bytes_to_utf8>(wide);
    return Json(wide).dump();
}

Result<SandboxSpec> decode_spec(std::string_view text) {
    try {
        auto spec = Json::parse(text).get<SandboxSpec>();
        convert_strings<utf8_to_bytes>(spec);
        return spec;
    } catch (const Json::exception& bad) {
        return fail(Code::kCorrupt, std::string("sandbox description: ") + bad.what());
    }
}

}  // namespace ppdsm
