#include "dsm/core/rings/error.h"

#include <string>

namespace ppdsm::rings {

std::string_view ring_code_name(RingCode code) {
    switch (code) {
        case RingCode::kDone: return "done";
        case RingCode::kEmpty: return "empty";
        case RingCode::kFull: return "full";
        case RingCode::kSealed: return "sealed";
        case RingCode::kTooLarge: return "larger than it can carry";
        case RingCode::kCorrupt: return "damaged by one of its ends";
        case RingCode::kTimedOut: return "not ready in time";
    }
    return "unknown";
}

namespace {

Code code_of(RingCode code) {
    switch (code) {
        case RingCode::kFull: return Code::kOverloaded;
        case RingCode::kSealed: return Code::kStaleEpoch;
        case RingCode::kTooLarge: return Code::kInvalid;
        case RingCode::kCorrupt: return Code::kCorrupt;
        default: return Code::kUnavailable;
    }
}

}  // namespace

Status ring_status(RingCode code, std::string_view where) {
    if (code == RingCode::kDone) return {};
    return fail(code_of(code), std::string(where) + ": " + std::string(ring_code_name(code)));
}

}  // namespace ppdsm::rings
