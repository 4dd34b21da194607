#include "dsm/base/result.h"

namespace ppdsm {

std::string_view code_name(Code code) {
    switch (code) {
        case Code::kUnavailable: return "unavailable";
        case Code::kOverloaded: return "overloaded";
        case Code::kStaleEpoch: return "stale epoch";
        case Code::kCorrupt: return "corrupt";
        case Code::kNotFound: return "not found";
        case Code::kInvalid: return "invalid";
        case Code::kUnsupported: return "unsupported";
        case Code::kIo: return "i/o";
    }
    return "unknown";
}

namespace {

Code code_of_errno(int errno_value) {
    switch (errno_value) {
        case ENOENT:
        case ESRCH: return Code::kNotFound;
        case ENOSPC:
        case EDQUOT:
        case ENOMEM:
        case EMFILE:
        case ENFILE: return Code::kOverloaded;
        case EAGAIN:
        case EBUSY:
        case ECONNREFUSED:
        case ECONNRESET:
        case EPIPE: return Code::kUnavailable;
        case EINVAL:
        case ENAMETOOLONG:
        case ENOTDIR:
        case EISDIR: return Code::kInvalid;
        case ENOSYS:
        case EOPNOTSUPP:
        case EPERM: return Code::kUnsupported;
        default: return Code::kIo;
    }
}

}  // namespace

Error Error::from_errno(std::string what, int errno_value) {
    return {code_of_errno(errno_value), errno_value, std::move(what)};
}

std::string Error::message() const {
    return errno_value_ == 0 ? what_ : what_ + ": " + std::strerror(errno_value_);
}

Error Error::within(std::string_view where) const {
    return {code_, errno_value_, std::string(where) + ": " + what_};
}

}  // namespace ppdsm
