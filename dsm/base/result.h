// Errors as values. An Error says what its receiver can do about it (Code), what the kernel said
// (errno), and in words what happened, where, and what to do. Nothing in ppdsm throws across rooms.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace ppdsm {

/// Sorted by what the caller will do, not by where the error arose.
enum class Code {
    kUnavailable,  ///< Try again, or elsewhere.
    kOverloaded,   ///< Try again later: a bound was reached (memory, disk, queue).
    kStaleEpoch,   ///< The sender belongs to an incarnation that has been fenced.
    kCorrupt,      ///< Stored or received bytes are not what was written.
    kNotFound,     ///< The thing named does not exist.
    kInvalid,      ///< The caller's input is wrong.
    kUnsupported,  ///< This kernel, CRIU or privilege cannot do it.
    kIo,           ///< The operating system refused; see the errno.
};

[[nodiscard]] std::string_view code_name(Code code);

class Error {
public:
    Error(Code code, std::string what) : code_(code), what_(std::move(what)) {}
    Error(Code code, int errno_value, std::string what)
        : code_(code), errno_value_(errno_value), what_(std::move(what)) {}

    /// The one mapper from errno to Code. `what` names the operation and its object ("open /x").
    static Error from_errno(std::string what, int errno_value = errno);

    [[nodiscard]] Code code() const { return code_; }
    [[nodiscard]] int errno_value() const { return errno_value_; }  ///< 0 when none.
    [[nodiscard]] const std::string& what() const { return what_; }

    /// One line for people: what happened, with the kernel's words when there are any.
    [[nodiscard]] std::string message() const;

    /// The same error seen from further out: "`where`: message".
    [[nodiscard]] Error within(std::string_view where) const;

private:
    Code code_;
    int errno_value_ = 0;
    std::string what_;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
    return tl::unexpected<Error>(std::move(error));
}
[[nodiscard]] inline tl::unexpected<Error> fail(Code code, std::string what) {
    return tl::unexpected<Error>(Error(code, std::move(what)));
}
/// Reads errno at the call.
[[nodiscard]] inline tl::unexpected<Error> fail_errno(std::string what) {
    return tl::unexpected<Error>(Error::from_errno(std::move(what)));
}

}  // namespace ppdsm

#define PPDSM_CONCAT_INNER(a, b) a##b
#define PPDSM_CONCAT(a, b) PPDSM_CONCAT_INNER(a, b)

/// Returns the error of `expression` (a Result) from the enclosing function.
#define PPDSM_TRY(expression)                                                  \
    do {                                                                       \
        auto&& ppdsm_try_result = (expression);                                \
        if (!ppdsm_try_result) return ::ppdsm::fail(ppdsm_try_result.error()); \
    } while (false)

/// `PPDSM_ASSIGN(auto fd, open_read(path));` - binds the value or returns the error.
#define PPDSM_ASSIGN(declaration, expression) \
    PPDSM_ASSIGN_INNER(PPDSM_CONCAT(ppdsm_assign_, __LINE__), declaration, expression)
#define PPDSM_ASSIGN_INNER(temporary, declaration, expression)          \
    auto temporary = (expression);                                      \
    if (!temporary) return ::ppdsm::fail(std::move(temporary).error()); \
    declaration = *std::move(temporary)
