#include "criu-glue/sandbox/refusal_log.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/base/files.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr const char* kNotExposedKey = "not_exposed";
constexpr const char* kAbsentKey = "absent";
constexpr const char* kWriteKey = "refused_write";
constexpr const char* kUnfetchedKey = "unfetched";
constexpr const char* kWhyKey = "why";
constexpr const char* kMoreKey = "more";

const char* key_of(RefusalLog::Kind kind) {
    switch (kind) {
        case RefusalLog::Kind::kNotExposed: return kNotExposedKey;
        case RefusalLog::Kind::kAbsent: return kAbsentKey;
        case RefusalLog::Kind::kWrite: return kWriteKey;
        case RefusalLog::Kind::kUnfetched: return kUnfetchedKey;
    }
    return "";
}

class Reader {
public:
    void take(const std::string& line) {
        const Json entry = Json::parse(line, nullptr, false);
        if (!entry.is_object()) return;
        if (entry.contains(kMoreKey)) refusals_.more = true;
        take_path(entry, kWriteKey, writes_, refusals_.writes);
        take_path(entry, kNotExposedKey, not_exposed_, refusals_.not_exposed);
        take_path(entry, kAbsentKey, absent_, absent_paths_);
        take_unfetched(entry);
    }
    Refusals result(bool at_home) {
        if (at_home) name_absent();
        std::erase_if(refusals_.not_exposed,
                      [this](const std::string& path) { return writes_.contains(path); });
        return std::move(refusals_);
    }

private:
    void name_absent() {
        for (std::string& path : absent_paths_) {
            struct stat info{};
            if (::lstat(path.c_str(), &info) != 0 || not_exposed_.contains(path)) continue;
            if (S_ISDIR(info.st_mode) && path.starts_with("/etc/")) continue;
            refusals_.not_exposed.push_back(std::move(path));
        }
    }
    void take_path(const Json& entry, const char* key, std::set<std::string>& seen,
                   std::vector<std::string>& list) {
        const auto found = entry.find(key);
        if (found == entry.end() || !found->is_string()) return;
        std::string path = utf8_to_bytes(found->get<std::string>());
        if (seen.contains(path)) return;
        if (seen.size() >= RefusalLog::kMostPaths) {
            refusals_.more = true;
            return;
        }
        seen.insert(path);
        list.push_back(std::move(path));
    }

    void take_unfetched(const Json& entry) {
        const auto path = entry.find(kUnfetchedKey);
        const auto why = entry.find(kWhyKey);
        if (path == entry.end() || !path->is_string()) return;
        if (why == entry.end() || !why->is_string()) return;
        if (unfetched_.size() >= RefusalLog::kMostPaths) {
            refusals_.more = true;
            return;
        }
        std::pair<std::string, std::string> both{utf8_to_bytes(path->get<std::string>()),
                                                 utf8_to_bytes(why->get<std::string>())};
        if (unfetched_.insert(both).second) refusals_.unfetched.push_back(std::move(both));
    }

    Refusals refusals_;
    std::set<std::pair<std::string, std::string>> unfetched_;
    std::set<std::string> writes_;
    std::set<std::string> not_exposed_;
    std::set<std::string> absent_;
    std::vector<std::string> absent_paths_;
};

}  // namespace

Result<RefusalLog> RefusalLog::open(const std::filesystem::path& path) {
    PPDSM_ASSIGN(OwnedFd file, open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0600));
    return RefusalLog(std::move(file));
}

void RefusalLog::note(Kind kind, const std::string& path, const std::string& why) {
    if (noted_.size() > kMostPaths || !noted_.emplace(kind, path, why).second) return;
    Json line = Json::object();
    if (noted_.size() > kMostPaths) {
        line[kMoreKey] = true;
    } else {
        line[key_of(kind)] = bytes_to_utf8(path);
        if (kind == Kind::kUnfetched) line[kWhyKey] = bytes_to_utf8(why);
    }
    (void)write_all(file_, as_bytes(line.dump() + "\n"));
}

Refusals read_refusals(const std::filesystem::path& path, bool at_home) {
    Reader reader;
    std::ifstream file(path, std::ios::binary);
    for (std::string line; std::getline(file, line);) reader.take(line);
    return reader.result(at_home);
}

}  // namespace ppdsm
