// TSPLIB files: symmetric travelling salesman problems by coordinates or by matrix.
// Format: G. Reinelt, TSPLIB 95, University of Heidelberg.
#pragma once

#include <istream>
#include <string>

#include "kernels/ga_tsp/instance.h"

namespace kernels {

/// Throws std::runtime_error, PATH:LINE: REASON, when the file cannot be read, is malformed, or
/// poses what is not supported (asymmetric distances, fixed edges, edge weight types other than
/// Metric's).
Instance read_tsplib(const std::string& path);

/// The same from a stream; `path` is for the errors.
Instance read_tsplib(std::istream& in, const std::string& path);

}  // namespace kernels
