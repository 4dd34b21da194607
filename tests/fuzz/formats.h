// Everything that a peer reads of another: each format with one example and a way through its
// decoder and back. The golden files, the mutations and the fuzzers all go through this list, so
// that a format added here is checked by all of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm::fuzz {

struct Format {
    std::string name;  ///< As of its golden file.
    Bytes sample;      ///< The same in every build.
    /// Decodes as a daemon does, and encodes again what was understood.
    std::function<Result<Bytes>(ByteView)> again;
    /// Memory that this may take at a time, whatever has come; besides some for each byte.
    std::size_t base_bytes = std::size_t{128} << 10;
};

/// What was understood of some bytes, encoded, must be understood as just that again. False: it is
/// not.
bool is_stable(const Format& format, const Bytes& understood);

const std::vector<Format>& formats();

/// The parts of the list, by who defines them.
void add_link_formats(std::vector<Format>& all);
void add_generation_formats(std::vector<Format>& all);
void add_file_formats(std::vector<Format>& all);
void add_run_formats(std::vector<Format>& all);
void add_ring_formats(std::vector<Format>& all);

template <typename Value, typename Encode, typename Decode>
Format format_of(std::string name, const Value& sample, Encode encode, Decode decode) {
    return {std::move(name), encode(sample), [encode, decode](ByteView bytes) -> Result<Bytes> {
                auto value = decode(bytes);
                if (!value) return fail(value.error());
                return encode(*value);
            }};
}

/// An id whose bytes are all `byte`.
template <typename Id>
Id filled(std::uint8_t byte) {
    Id id;
    id.bytes.fill(byte);
    return id;
}

inline Bytes to_bytes(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace ppdsm::fuzz
