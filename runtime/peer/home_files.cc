#include "runtime/peer/home_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/base/files.h"

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

}  // namespace

bool is_at_home(const std::string& place_name) { return place_name.starts_with("/"); }

Status HomeFiles::write(const std::string& name, const std::filesystem::path& directory) {
    PPDSM_ASSIGN(const ApplyReport report,
                 apply_layer(directory, name, HomeBaseline::at(created_unix_ms_ * 1'000'000),
                             applied_[name]));
    add_report(report_, report);
    return {};
}

Status HomeFiles::save() const {
    Json places = Json::object();
    for (const auto& [name, left] : applied_) {
        Json& list = places[bytes_to_utf8(name)] = Json::array();
        for (const auto& [path, ctime_ns] : left) list.push_back({bytes_to_utf8(path), ctime_ns});
    }
    return replace_file(remembered_, as_bytes(places.dump() + "\n"), 0600);
}

Status HomeFiles::load() {
    const Result<std::string> text = read_text(remembered_);
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
        return fail(Code::kCorrupt, remembered_.string() + ": " + bad.what());
    }
    return {};
}

}  // namespace ppdsm
