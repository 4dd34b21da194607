#include "cli/checkpoint_ref.h"

#include <algorithm>
#include <cstdlib>

namespace ppdsm {

Result<CheckpointRef> find_checkpoint(const std::string& reference) {
    const std::size_t at = reference.rfind('@');
    PPDSM_ASSIGN(const Home home, Home::open());
    CheckpointRef found;
    PPDSM_ASSIGN(found.paths, home.find(reference.substr(0, at)));
    PPDSM_ASSIGN(found.pin, pin_generations(found.paths));
    PPDSM_ASSIGN(found.record, read_record(found.paths));
    PPDSM_ASSIGN(found.commits, CommitLog::read(found.paths.commits()));
    if (found.commits.generations.empty()) {
        return fail(Code::kNotFound, found.paths.id() +
                                         " has no checkpoint yet; `ppdsm checkpoint create " +
                                         found.paths.id() + "` makes one while it runs");
    }
    found.generation = found.commits.generations.back();
    if (at == std::string::npos) return found;
    const std::uint64_t wanted = std::strtoull(reference.c_str() + at + 1, nullptr, 10);
    std::string kept;
    for (const GenerationRecord& record : found.commits.generations) {
        if (record.generation == wanted) {
            found.generation = record;
            return found;
        }
        kept += " " + std::to_string(record.generation);
    }
    return fail(Code::kNotFound, found.paths.id() + " has no generation " +
                                     reference.substr(at + 1) + "; it keeps" + kept);
}

}  // namespace ppdsm
