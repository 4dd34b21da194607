// A generation as one self-contained file: `checkpoint export` writes it, `checkpoint import` makes
// an interrupted virtual computer of it, here or on another machine, that `resume` goes on with.
//
// Format: one LZ4 frame (with content checksum; `lz4 -d` reads it) around sections, each
//   kind: 1 byte; size: 8 bytes, little-endian; that many bytes.
// The first section is kHeader ("ppdsm-export", version), the last kEnd; chunks come as they are
// and are named by their content.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "runtime/peer/commit_log.h"
#include "runtime/peer/home.h"

namespace ppdsm {

using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// The file appears whole or not at all.
Status export_generation(const VcPaths& paths, const GenerationRecord& record,
                         const std::filesystem::path& file, const Progress& progress);

/// Under a new id; everything is verified before the VC appears. kUnsupported: a newer version.
Result<VcPaths> import_generation(const Home& home, const std::filesystem::path& file);

}  // namespace ppdsm
