#include "runtime/peer/mesh/trust.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "dsm/base/base32.h"
#include "dsm/base/byte_text.h"
#include "dsm/base/wall_clock.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

Result<TrustEntry> entry_from(const Json& json) {
    TrustEntry entry;
    PPDSM_ASSIGN(const Bytes key, decode_base32(json.at("key").get<std::string>()));
    if (key.size() != entry.key.bytes.size()) return fail(Code::kCorrupt, "a key of wrong length");
    std::copy(key.begin(), key.end(), entry.key.bytes.begin());
    PPDSM_ASSIGN(entry.added_by, PeerId::parse(json.at("added_by").get<std::string>()));
    entry.name = utf8_to_bytes(json.at("name").get<std::string>());
    json.at("added_unix_ms").get_to(entry.added_unix_ms);
    json.at("removed").get_to(entry.removed);
    json.at("version").get_to(entry.version);
    return entry;
}

/// Whether `a` holds against `b`.
bool overrules(const TrustEntry& a, const TrustEntry& b) {
    // Any order will do for those made at the same time, as long as it is one.
    const auto rank = [](const TrustEntry& entry) {
        return std::tuple(entry.version, entry.removed, entry.added_unix_ms, entry.name,
                          entry.added_by);
    };
    return rank(a) > rank(b);
}

}  // namespace

Result<Trust> Trust::open(const std::filesystem::path& path) {
    Trust trust(path);
    const Result<std::string> text = read_text(path);
    if (!text && text.error().code() == Code::kNotFound) return trust;
    if (!text) return fail(text.error());
    try {
        const Json list = Json::parse(*text);
        for (const Json& each : list) {
            Result<TrustEntry> entry = entry_from(each);
            if (!entry) return fail(entry.error().within(path.string()));
            trust.entries_[entry->key] = *std::move(entry);
        }
    } catch (const Json::exception& bad) {
        return fail(Code::kCorrupt, path.string() + ": " + bad.what() +
                                        "; restore it from another peer's, or be invited anew");
    }
    return trust;
}

Status Trust::save() const {
    Json list = Json::array();
    for (const auto& [key, entry] : entries_) {
        list.push_back({{"key", encode_base32(key.bytes)},
                        {"id", key.id().to_string()},
                        {"name", bytes_to_utf8(entry.name)},
                        {"added_unix_ms", entry.added_unix_ms},
                        {"added_by", entry.added_by.to_string()},
                        {"removed", entry.removed},
                        {"version", entry.version}});
    }
    return replace_file(path_, as_bytes(list.dump(1) + "\n"), 0600);
}

bool Trust::allows(const PublicKey& key) const {
    const auto found = entries_.find(key);
    return found != entries_.end() && !found->second.removed;
}

std::vector<TrustEntry> Trust::entries() const {
    std::vector<TrustEntry> all;
    for (const auto& [key, entry] : entries_) all.push_back(entry);
    return all;
}

const TrustEntry* Trust::find(const PeerId& id) const {
    const auto found = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const auto& each) { return each.first.id() == id; });
    return found == entries_.end() ? nullptr : &found->second;
}

Status Trust::add(const PublicKey& key, const std::string& name, const PeerId& by) {
    if (allows(key)) return {};
    if (entries_.size() >= kMaxEntries) {
        return fail(Code::kOverloaded,
                    "the mesh's allow list is full (" + std::to_string(kMaxEntries) + " keys)");
    }
    TrustEntry& entry = entries_[key];
    const bool is_new = entry.key == PublicKey{};
    entry = {key, name, unix_now_ms(), by, false, is_new ? 1 : entry.version + 1};
    return save();
}

Status Trust::remove(const PeerId& id) {
    const TrustEntry* entry = find(id);
    if (entry == nullptr || entry->removed) {
        return fail(Code::kNotFound, id.to_string() + " is not on the allow list");
    }
    TrustEntry& removed = entries_[entry->key];
    removed.removed = true;
    ++removed.version;
    return save();
}

Result<bool> Trust::merge(const std::vector<TrustEntry>& entries) {
    bool changed = false;
    for (const TrustEntry& entry : entries) {
        const auto found = entries_.find(entry.key);
        if (found != entries_.end() && !overrules(entry, found->second)) continue;
        if (found == entries_.end() && entries_.size() >= kMaxEntries) continue;
        entries_[entry.key] = entry;
        changed = true;
    }
    if (changed) PPDSM_TRY(save());
    return changed;
}

}  // namespace ppdsm
