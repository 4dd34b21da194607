// The commit log of one virtual computer: one line a record, "<XXH3-64 of the rest> <JSON>\n",
// appended and fsynced. A record counts when its line is whole and its checksum right; what a kill
// tore off at the end is cut away by the next writer. A generation exists when, and only when, its
// record does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "criu-glue/store/chunk_id.h"
#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// Everything that becomes true at once when a generation commits.
struct GenerationRecord {
    std::uint64_t generation = 0;
    std::uint64_t epoch = 0;
    std::uint64_t predecessor = 0;
    ChunkId manifest;                 ///< Name of the manifest file's bytes.
    std::uint64_t output_bytes = 0;   ///< Offset in the output log.
    std::uint64_t input_bytes = 0;    ///< Of stdin, consumed by the program.
    std::uint64_t input_signals = 0;  ///< Forwarded before the cut.
    std::uint32_t pause_us = 0;
    std::uint32_t cut_us = 0;
    std::uint64_t bytes_new = 0;
    std::uint64_t bytes_total = 0;
    std::int64_t unix_ms = 0;
    /// Of the catalog of what the program was shown of its owner's files; 0: home is here.
    std::uint64_t catalog_bytes = 0;
    /// Of a virtual thread: so many of its calls were answered at the cut, or one more.
    std::uint64_t calls = 0;
};

/// As JSON, for the log and for exports.
std::string format_generation(const GenerationRecord& record);
Result<GenerationRecord> parse_generation(std::string_view json);

struct EndRecord {
    int wait_status = 0;
    std::uint64_t output_bytes = 0;
    std::string failure;  ///< Not empty: ppdsm gave up, and why.
};

/// What the log says, replayed from its beginning.
struct CommitState {
    std::uint64_t epoch = 0;  ///< Number of incarnations so far.
    std::vector<GenerationRecord> generations;
    /// By this incarnation, per generation, 0 the very start. A new executor tries afresh: it is
    /// there because somebody asked for it.
    std::map<std::uint64_t, std::uint32_t> restores;
    bool unprotected = false;  ///< Output has been released that no generation covers.
    std::optional<EndRecord> end;
    bool applied = false;                ///< The files at home are written.
    std::vector<std::uint64_t> dropped;  ///< Generations whose retention has ended.

    [[nodiscard]] const GenerationRecord* last() const {
        return generations.empty() ? nullptr : &generations.back();
    }
};

class CommitLog {
public:
    /// For the executor that holds the VC's lock: cuts off a torn tail, then appends.
    static Result<CommitLog> open(const std::filesystem::path& path);
    /// For everybody else.
    static Result<CommitState> read(const std::filesystem::path& path);

    /// Makes the log at `path` that of an executor which takes over: it begins `epoch` with these
    /// generations.
    static Status install(const std::filesystem::path& path, std::uint64_t epoch,
                          const std::vector<GenerationRecord>& generations);

    [[nodiscard]] const CommitState& state() const { return state_; }

    Status begin_epoch();
    Status commit(const GenerationRecord& record);
    Status note_restore(std::uint64_t generation);
    Status note_dropped(std::uint64_t generation);
    /// Before output is released that no generation covers: from then on there is no way back.
    Status note_unprotected();
    Status end(const EndRecord& record);
    Status note_applied();

private:
    explicit CommitLog(OwnedFd fd) : fd_(std::move(fd)) {}
    Status append(const std::string& json);
    OwnedFd fd_;
    CommitState state_;
};

}  // namespace ppdsm
