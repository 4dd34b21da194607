#include "dsm/base/table_bounds.h"

#include <flatbuffers/flatbuffers.h>
#include <flatbuffers/minireflect.h>

#include <algorithm>
#include <cstdint>

namespace ppdsm {

namespace {

using flatbuffers::ElementaryType;
using flatbuffers::ReadScalar;
using flatbuffers::Table;
using flatbuffers::TypeCode;
using flatbuffers::TypeTable;
using flatbuffers::uoffset_t;
using flatbuffers::voffset_t;

class Tally {
public:
    explicit Tally(std::size_t room_bytes) : room_bytes_(room_bytes) {}

    bool add_table(const Table& table, const TypeTable& type) {
        const std::uint8_t* vtable = table.GetVTable();
        // The verifier lets one pass that ends before the table's size, perhaps with the message.
        if (ReadScalar<voffset_t>(vtable) < 2 * sizeof(voffset_t)) return false;
        const auto inline_bytes = ReadScalar<voffset_t>(vtable + sizeof(voffset_t));
        // The least is what names its vtable.
        if (!take(std::max<std::size_t>(inline_bytes, sizeof(flatbuffers::soffset_t)))) {
            return false;
        }
        for (std::size_t i = 0; i < type.num_elems; ++i) {
            const auto at = flatbuffers::FieldIndexToOffset(static_cast<voffset_t>(i));
            const TypeCode code = type.type_codes[i];
            const TypeTable* below =
                code.sequence_ref < 0 ? nullptr : type.type_refs[code.sequence_ref]();
            if (!table.CheckField(at)) continue;
            if (code.is_repeating != 0) {
                if (!add_vector(table.GetPointer<const std::uint8_t*>(at), element_of(code), below))
                    return false;
            } else if (is_apart(element_of(code), below)) {
                if (!add_apart(table.GetPointer<const std::uint8_t*>(at), below)) return false;
            }
        }
        return true;
    }

private:
    static ElementaryType element_of(TypeCode code) {
        return static_cast<ElementaryType>(code.base_type);
    }
    /// Reached by an offset, not inline.
    static bool is_apart(ElementaryType element, const TypeTable* below) {
        return element == flatbuffers::ET_STRING ||
               (element == flatbuffers::ET_SEQUENCE && below->st == flatbuffers::ST_TABLE);
    }

    bool add_apart(const std::uint8_t* at, const TypeTable* below) {
        if (below != nullptr) return add_table(*reinterpret_cast<const Table*>(at), *below);
        return take(sizeof(uoffset_t) + ReadScalar<uoffset_t>(at));
    }

    bool add_vector(const std::uint8_t* vector, ElementaryType element, const TypeTable* below) {
        const std::size_t count = ReadScalar<uoffset_t>(vector);
        const std::size_t element_bytes = flatbuffers::InlineSize(element, below);
        if (!take(sizeof(uoffset_t) + count * element_bytes)) return false;
        if (!is_apart(element, below)) return true;
        const std::uint8_t* at = vector + sizeof(uoffset_t);
        for (std::size_t i = 0; i < count; ++i, at += sizeof(uoffset_t)) {
            if (!add_apart(at + ReadScalar<uoffset_t>(at), below)) return false;
        }
        return true;
    }

    bool take(std::size_t bytes) {
        if (bytes > room_bytes_) return false;
        room_bytes_ -= bytes;
        return true;
    }

    std::size_t room_bytes_;
};

}  // namespace

bool names_all_once(const Table& root, const TypeTable& type, std::size_t size_bytes) {
    return Tally(size_bytes).add_table(root, type);
}

}  // namespace ppdsm
