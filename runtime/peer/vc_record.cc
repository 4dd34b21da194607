#include "runtime/peer/vc_record.h"

#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/base/files.h"

namespace ppdsm {

using Json = nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Exposure, path, writable, links)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(VcRecord, id, name, program, arguments, environment,
                                   working_directory, exposures, uid, gid, created_unix_ms,
                                   terminal, detached, host_network, require_checkpoints, recover,
                                   output, files, checkpoint_every_ms, timeout_ms, memory_bytes,
                                   cpus, keep_generations)

namespace {

template <std::string (*Convert)(const std::string&)>
void convert_strings(VcRecord& record) {
    for (std::string* text : {&record.name, &record.program, &record.working_directory}) {
        *text = Convert(*text);
    }
    for (std::vector<std::string>* list : {&record.arguments, &record.environment}) {
        for (std::string& text : *list) text = Convert(text);
    }
    for (Exposure& exposure : record.exposures) {
        exposure.path = Convert(exposure.path);
        for (auto& [path, target] : exposure.links) path = Convert(path), target = Convert(target);
    }
}

}  // namespace

Status write_record(const VcPaths& paths, const VcRecord& record) {
    VcRecord wide = record;
    convert_strings<bytes_to_utf8>(wide);
    return replace_file(paths.record(), as_bytes(Json(wide).dump(1) + "\n"), 0600);
}

Result<VcRecord> read_record(const VcPaths& paths) {
    PPDSM_ASSIGN(const std::string text, read_text(paths.record()));
    try {
        auto record = Json::parse(text).get<VcRecord>();
        convert_strings<utf8_to_bytes>(record);
        return record;
    } catch (const Json::exception& bad) {
        return fail(Code::kCorrupt, paths.record().string() + ": " + bad.what());
    }
}

}  // namespace ppdsm
