#include "criu-glue/store/chunk_id.h"

#include <xxhash.h>

#include <string_view>

namespace ppdsm {

ChunkId ChunkId::of(ByteView content) {
    const XXH128_hash_t hash = XXH3_128bits(content.data(), content.size());
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    ChunkId id;
    static_assert(sizeof canonical.digest == sizeof id.bytes);
    std::memcpy(id.bytes.data(), canonical.digest, sizeof id.bytes);
    return id;
}

std::string ChunkId::to_string() const {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    text.reserve(2 * bytes.size());
    for (const std::uint8_t byte : bytes) {
        text += kDigits[byte >> 4U];
        text += kDigits[byte & 15U];
    }
    return text;
}

}  // namespace ppdsm
