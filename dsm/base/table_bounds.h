// FlatBuffers that another machine wrote. Its verifier keeps offsets within the buffer, but lets
// many of them lead to the same bytes: unpacked, a few hundred kilobytes would become gigabytes.
#pragma once

#include <cstddef>

namespace flatbuffers {
class Table;
struct TypeTable;
}  // namespace flatbuffers

namespace ppdsm {

/// Whether all that `root` leads to, counted as often as something leads there, fits into
/// `size_bytes`. A builder writes everything once, so that what it made always does. `root` has
/// been verified, with a bound on its depth; no type below it has unions.
[[nodiscard]] bool names_all_once(const flatbuffers::Table& root,
                                  const flatbuffers::TypeTable& type, std::size_t size_bytes);

}  // namespace ppdsm
