// RFC 4648 base32 in lower case, without padding: what people copy by hand.
#pragma once

#include <string>
#include <string_view>

#include "dsm/base/files.h"

namespace ppdsm {

std::string encode_base32(ByteView bytes);
/// Capitals, hyphens and blanks are forgiven. kInvalid.
Result<Bytes> decode_base32(std::string_view text);

}  // namespace ppdsm
