// The files at home that a run leaves there: when it has ended, or after every generation with
// --files commit. Remembers durably what an earlier apply left, so that a later one, also after a
// death, tells the run's own files from those that somebody else changed.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "criu-glue/files/layer.h"
#include "runtime/peer/home.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

class HomeFiles {
public:
    HomeFiles(const VcPaths& paths, const VcRecord& record)
        : remembered_(paths.applied()), created_unix_ms_(record.created_unix_ms) {}

    Status load();
    /// Writes one layer, whose content lies in `directory`, over the place at home that has its
    /// name. Doing it again changes nothing more.
    Status write(const std::string& name, const std::filesystem::path& directory);
    Status save() const;

    /// Of all writes.
    [[nodiscard]] const ApplyReport& report() const { return report_; }

private:
    std::filesystem::path remembered_;
    std::int64_t created_unix_ms_;
    /// Per place: what an earlier apply of this run left at home (see apply_layer).
    std::map<std::string, std::vector<std::pair<std::string, std::int64_t>>> applied_;
    ApplyReport report_;
};

/// Whether a writable place is one at home, by its name.
[[nodiscard]] bool is_at_home(const std::string& place_name);

}  // namespace ppdsm
