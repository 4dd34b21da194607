// What calls of ppdsm throw. All are Failures, except what a spawned function threw: its exception
// comes out of get() at whoever spawned it, as the same type if it is one of the standard
// library's, and as a RemoteError otherwise.
#pragma once

#include <any>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>

namespace ppdsm {

/// The base of what ppdsm itself throws.
class Failure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Every virtual thread of the computer waits and no message is in flight: what() lists who waits
/// for what. Each of them gets it, from the call in which it waits.
class Deadlock : public Failure {
public:
    using Failure::Failure;
};

/// In a virtual thread that was cancelled: from its next call. At get(): the thread was cancelled.
class Cancelled : public Failure {
public:
    using Failure::Failure;
};

/// A message to a virtual thread that has ended.
class ThreadEnded : public Failure {
public:
    using Failure::Failure;
};

/// A message, argument list, or result of more than a gibibyte.
class Oversized : public Failure {
public:
    using Failure::Failure;
};

/// Two sides mean different types: a result other than the function's, a mailbox opened as another
/// type, or builds of a program that disagree.
class TypeMismatch : public Failure {
public:
    using Failure::Failure;
};

/// No peer may run a virtual thread; what() gives each one's reason.
class NoPeer : public Failure {
public:
    using Failure::Failure;
};

/// At get(): the virtual thread did not return; what() has the signal or exit code, and the peer.
class ThreadCrashed : public Failure {
public:
    using Failure::Failure;
};

/// A call that makes no sense where it was made; a mistake in the program.
class Misuse : public Failure {
public:
    using Failure::Failure;
};

/// The runtime cannot reach what it needs any more, or cannot serve a program built against this
/// header.
class Disconnected : public Failure {
public:
    using Failure::Failure;
};

/// At get(): the function threw something that cannot travel; what() is its what().
class RemoteError : public Failure {
public:
    using Failure::Failure;
};

namespace detail {

/// The exceptions that travel. An exception's tag is its place here, from 1; new ones go to the
/// end.
using TravellingExceptions =
    std::tuple<RemoteError, Deadlock, Cancelled, ThreadEnded, Oversized, TypeMismatch, NoPeer,
               ThreadCrashed, Misuse, Disconnected, Failure, std::runtime_error, std::logic_error,
               std::invalid_argument, std::domain_error, std::length_error, std::out_of_range,
               std::range_error, std::overflow_error, std::underflow_error, std::bad_alloc,
               std::bad_array_new_length, std::bad_cast, std::bad_typeid, std::bad_exception,
               std::bad_optional_access, std::bad_variant_access, std::bad_any_cast,
               std::bad_function_call, std::exception>;

inline constexpr std::uint64_t kRemoteErrorTag = 1;
inline constexpr std::uint64_t kSystemErrorTag =
    1000;  ///< The text begins with the error's number.
inline constexpr std::uint64_t kGenericErrorTag = 1001;  ///< The same, of the generic category.

struct TravellingException {
    std::uint64_t tag = kRemoteErrorTag;
    std::string text;
};

inline TravellingException travelling(const std::system_error& error) {
    const bool system = error.code().category() == std::system_category();
    if (!system && error.code().category() != std::generic_category()) {
        return {kRemoteErrorTag, error.what()};
    }
    std::string text = error.what();
    const std::string suffix = ": " + error.code().message();
    if (text.size() >= suffix.size() &&
        text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0) {
        text.resize(text.size() - suffix.size());
    }
    return {system ? kSystemErrorTag : kGenericErrorTag,
            std::to_string(error.code().value()) + ' ' + text};
}

/// The tag of exactly this type, 0 if there is none.
template <class... Travelling>
std::uint64_t tag_among(const std::exception& error, const std::tuple<Travelling...>*) {
    std::uint64_t tag = 0;
#ifdef __cpp_rtti
    std::uint64_t next = 0;
    static_cast<void>(((++next, typeid(error) == typeid(Travelling) && (tag = next) != 0) || ...));
#else
    static_cast<void>(error);
#endif
    return tag;
}

/// The exact type counts: an own exception that derives from a standard one must not lose what it
/// adds unnoticed. Without run-time type information nothing is known, and all become RemoteErrors.
inline TravellingException travelling(const std::exception& error) {
#ifdef __cpp_rtti
    if (typeid(error) == typeid(std::system_error)) {
        return travelling(static_cast<const std::system_error&>(error));
    }
#endif
    const auto* all = static_cast<const TravellingExceptions*>(nullptr);
    const std::uint64_t tag = tag_among(error, all);
    return {tag == 0 ? kRemoteErrorTag : tag, error.what()};
}

template <class Exception>
[[noreturn]] void throw_with(const std::string& text) {
    if constexpr (std::is_constructible_v<Exception, const std::string&>) {
        throw Exception(text);
    } else {
        throw Exception();
    }
}

template <class... Travelling>
void throw_tagged(std::uint64_t tag, const std::string& text, const std::tuple<Travelling...>*) {
    std::uint64_t next = 0;
    ((++next == tag ? throw_with<Travelling>(text) : void()), ...);
}

/// Throws what `travelling` made this of.
[[noreturn]] inline void rethrow_travelled(std::uint64_t tag, const std::string& text) {
    if (tag == kSystemErrorTag || tag == kGenericErrorTag) {
        const auto space = text.find(' ');
        const int number = std::atoi(text.c_str());
        const auto& category =
            tag == kSystemErrorTag ? std::system_category() : std::generic_category();
        throw std::system_error(
            number, category, space == std::string::npos ? std::string() : text.substr(space + 1));
    }
    throw_tagged(tag, text, static_cast<const TravellingExceptions*>(nullptr));
    throw RemoteError(text);
}

}  // namespace detail
}  // namespace ppdsm
