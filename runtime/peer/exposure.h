// Which paths of home a program is shown beyond the default ones, as its user says it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "dsm/base/result.h"

namespace ppdsm {

struct Exposure {
    std::string path;  ///< Absolute, without links; at home and inside alike.
    bool writable = false;
    /// Path and target of the links at home that led to `path`: inside they lead there too.
    std::vector<std::pair<std::string, std::string>> links;
    bool operator==(const Exposure&) const = default;
};

/// PATH[:ro|rw], relative to the working directory or absolute. The error names what is not there.
Result<Exposure> parse_exposure(const std::string& text);

}  // namespace ppdsm
