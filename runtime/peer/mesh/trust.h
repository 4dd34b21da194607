// The mesh's allow list: whose keys its peers talk to. Every peer has all of it in trust.json, and
// peers give each other what they lack, so that an invitation or a removal at one reaches all.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "dsm/io/peer_key.h"

namespace ppdsm {

struct TrustEntry {
    PublicKey key;
    std::string name;
    std::int64_t added_unix_ms = 0;
    PeerId added_by;
    bool removed = false;
    std::uint64_t version = 1;  ///< Of two entries for a key the later holds.
};

class Trust {
public:
    static constexpr std::size_t kMaxEntries = 4096;

    /// Reads the list, which is empty at first.
    static Result<Trust> open(const std::filesystem::path& path);

    [[nodiscard]] bool allows(const PublicKey& key) const;
    [[nodiscard]] std::vector<TrustEntry> entries() const;
    [[nodiscard]] const TrustEntry* find(const PeerId& id) const;

    Status add(const PublicKey& key, const std::string& name, const PeerId& by);
    /// kNotFound. The key can be added again later.
    Status remove(const PeerId& id);
    /// Takes what is newer; whether anything was. In whatever order lists are merged, the result is
    /// the same.
    Result<bool> merge(const std::vector<TrustEntry>& entries);

private:
    explicit Trust(std::filesystem::path path) : path_(std::move(path)) {}
    Status save() const;
    std::filesystem::path path_;
    std::map<PublicKey, TrustEntry> entries_;
};

}  // namespace ppdsm
