// What was asked for: a virtual computer's unchanging description, kept as vc.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dsm/base/result.h"
#include "runtime/peer/exposure.h"
#include "runtime/peer/home.h"

namespace ppdsm {

enum class OutputMode : std::uint8_t { kCommitted, kLive };
enum class FilesMode : std::uint8_t { kEnd, kCommit };

struct VcRecord {
    std::string id;
    std::string name;
    std::string program;  ///< Absolute path.
    std::vector<std::string> arguments;
    std::vector<std::string> environment;
    std::string working_directory;
    std::vector<Exposure> exposures;  ///< Beyond the default ones.
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t created_unix_ms = 0;
    bool terminal = false;
    bool detached = false;
    bool host_network = false;
    bool require_checkpoints = false;
    bool recover = true;  ///< Go on from the last generation when SIGKILL takes the program.
    OutputMode output = OutputMode::kCommitted;
    FilesMode files = FilesMode::kEnd;
    std::int64_t checkpoint_every_ms = 0;  ///< 0: auto; -1: off.
    std::int64_t timeout_ms = 0;           ///< 0: none.
    std::uint64_t memory_bytes = 0;        ///< 0: no limit.
    double cpus = 0;                       ///< 0: no limit.
    std::uint32_t keep_generations = 3;
    std::string hostname;        ///< What the program sees; empty: that of the machine it runs on.
    std::string on;              ///< Peer at which it must run; empty: any.
    std::uint32_t replicas = 2;  ///< Peers that keep each generation besides the one that runs it.
    /// Of a program that uses ppdsm's header: its number in its virtual computer; 1: the program
    /// itself. 0: no such program, or one that runs by itself.
    std::uint64_t thread = 0;
    std::string computer;  ///< Of a spawned virtual thread: the id of the program's own VC.
};

/// Whether the file is a program that was compiled with ppdsm's header, as far as can be seen.
bool uses_header(const std::string& program);

/// As JSON, in the file and on the wire.
std::string encode_record(const VcRecord& record);
Result<VcRecord> decode_record(const std::string& json);

Status write_record(const VcPaths& paths, const VcRecord& record);
Result<VcRecord> read_record(const VcPaths& paths);

}  // namespace ppdsm
