#include "runtime/peer/vc_record.h"

#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/base/files.h"

namespace ppdsm {

using Json = nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Exposure, path, writable, links)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(VcRecord, id, name, program, arguments, environment,
                                                working_directory, exposures, uid, gid,
                                                created_unix_ms, terminal, detached, host_network,
                                                require_checkpoints, recover, output, files,
                                                checkpoint_every_ms, timeout_ms, memory_bytes, cpus,
                                                keep_generations, hostname, on, replicas, thread,
                                                computer)

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

/// By the name under which it looks for its runtime.
bool uses_header(const std::string& program) {
    constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;
    const Result<Bytes> bytes = read_file(program, kMostBytes);
    if (!bytes) return false;
    const std::string_view text = as_text(*bytes);
    return text.starts_with(
               "\x7F"
               "ELF") &&
           text.find("ppdsm_runtime") != std::string_view::npos;
}

std::string encode_record(const VcRecord& record) {
    VcRecord wide = record;
    convert_strings<bytes_to_utf8>(wide);
    return Json(wide).dump(1) + "\n";
}

Result<VcRecord> decode_record(const std::string& json) {
    try {
        const Json parsed = Json::parse(json);
        for (const char* needed : {"id", "program", "arguments", "working_directory"}) {
            (void)parsed.at(needed);
        }
        auto record = parsed.get<VcRecord>();
        convert_strings<utf8_to_bytes>(record);
        return record;
    } catch (const Json::exception& bad) {
        return fail(Code::kCorrupt, bad.what());
    }
}

Status write_record(const VcPaths& paths, const VcRecord& record) {
    return replace_file(paths.record(), as_bytes(encode_record(record)), 0600);
}

Result<VcRecord> read_record(const VcPaths& paths) {
    PPDSM_ASSIGN(const std::string text, read_text(paths.record()));
    Result<VcRecord> record = decode_record(text);
    if (!record) return fail(record.error().within(paths.record().string()));
    return record;
}

}  // namespace ppdsm
