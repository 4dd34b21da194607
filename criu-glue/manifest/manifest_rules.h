// What a manifest may say. The same rules hold for what we write and for what we read, so that no
// generation is committed that could not be decoded, and no name from a foreign manifest leaves the
// directory it is meant for.
#pragma once

#include <cstddef>

#include "criu-glue/manifest/manifest.h"

namespace ppdsm {

/// The first rule broken, in words that name the offender; kInvalid.
Status check_manifest(const Manifest& manifest);

/// No less than the bytes its encoding takes.
[[nodiscard]] std::size_t encoded_bytes_at_most(const Manifest& manifest);

}  // namespace ppdsm
