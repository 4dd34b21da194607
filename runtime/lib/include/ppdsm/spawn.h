// How a function call travels: its arguments as bytes to an instantiation of `entry`, its result or
// exception as bytes back.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ppdsm/context.h"

namespace ppdsm::detail {

/// The parameters and the result of a function type; kKnown is false for what is none.
template <class F>
struct Signature {
    static constexpr bool kKnown = false;
};
template <class R, class... P>
struct Signature<R(P...)> {
    static constexpr bool kKnown = true;
    using Result = R;
    using Parameters = Types<P...>;
    using Pointer = R (*)(P...);
};
template <class R, class... P>
struct Signature<R (*)(P...)> : Signature<R(P...)> {};
template <class R, class... P>
struct Signature<R (*)(P...) noexcept> : Signature<R(P...)> {};
template <class C, class R, class... P>
struct Signature<R (C::*)(P...)> : Signature<R(P...)> {};
template <class C, class R, class... P>
struct Signature<R (C::*)(P...) const> : Signature<R(P...)> {};
template <class C, class R, class... P>
struct Signature<R (C::*)(P...) noexcept> : Signature<R(P...)> {};
template <class C, class R, class... P>
struct Signature<R (C::*)(P...) const noexcept> : Signature<R(P...)> {};

template <class F, class = void>
struct SignatureOf : Signature<F> {};
template <class F>
struct SignatureOf<F, std::void_t<decltype(&F::operator())>> : Signature<decltype(&F::operator())> {
};

template <class F, class = void>
struct IsPlainFunction : std::false_type {};
template <class F>
struct IsPlainFunction<F, std::void_t<typename SignatureOf<F>::Pointer>>
    : std::is_convertible<F, typename SignatureOf<F>::Pointer> {};

/// Fails to compile, saying why, if F cannot be spawned.
template <class F>
constexpr bool require_spawnable() {
    static_assert(SignatureOf<F>::kKnown || !std::is_class_v<F>,
                  "ppdsm: spawn cannot tell which function is meant; give its parameters' types "
                  "(no `auto`, no overloads)");
    static_assert(SignatureOf<F>::kKnown || std::is_class_v<F>,
                  "ppdsm: spawn takes a function or a captureless lambda");
    static_assert(
        !SignatureOf<F>::kKnown || IsPlainFunction<F>::value,
        "ppdsm: spawn takes a function or a captureless lambda: what a lambda captures would not "
        "travel with it; pass it as an argument");
    return IsPlainFunction<F>::value;
}

template <class P>
constexpr bool require_parameter() {
    static_assert(
        !std::is_lvalue_reference_v<P> || std::is_const_v<std::remove_reference_t<P>>,
        "ppdsm: a spawned function cannot take a reference that it may write through, since "
        "its caller's object stays behind; take the value, and return the new one");
    return require_portable<std::decay_t<P>>() &&
           (!std::is_lvalue_reference_v<P> || std::is_const_v<std::remove_reference_t<P>>);
}

template <class R, class... P>
constexpr bool require_call(Types<P...>) {
    if constexpr (std::is_void_v<R>) {
        return (require_parameter<P>() && ...);
    } else {
        return require_portable<R>() && (require_parameter<P>() && ...);
    }
}

/// Makes a new context the calling thread's for a scope.
class ContextScope {
public:
    ContextScope() : outer_(std::exchange(current_context(), &context_)) {}
    ContextScope(const ContextScope&) = delete;
    ContextScope& operator=(const ContextScope&) = delete;
    ~ContextScope() { current_context() = outer_; }

private:
    Context context_;
    Context* outer_;
};

inline void set_exception(abi::Outcome& outcome, const TravellingException& exception) noexcept {
    outcome = {};
    outcome.kind = abi::kException;
    outcome.payload.type = exception.tag;
    try {
        outcome.payload.bytes = pack_text(exception.text).pass();
    } catch (...) {  // NOLINT(bugprone-empty-catch)
        // Without memory, an exception goes without its text.
    }
}

/// Runs `call` in a context of its own; what it throws becomes the outcome.
template <class Call>
void run_entry(abi::Outcome& outcome, const Call& call) noexcept {
    outcome = {};
    try {
        const ContextScope scope;
        call();
    } catch (const std::exception& error) {
        set_exception(outcome, travelling(error));
    } catch (...) {
        set_exception(outcome, {kRemoteErrorTag, "something was thrown that is no std::exception"});
    }
}

/// The abi::Entry of all functions of a signature.
template <class R, class... P>
void entry(abi::Function function, abi::Payload* arguments, abi::Outcome* outcome) {
    using Arguments = std::tuple<std::decay_t<P>...>;
    Bytes bytes(std::exchange(arguments->bytes, {}));
    run_entry(*outcome, [&] {
        if (arguments->type != fingerprint<Arguments>()) {
            throw TypeMismatch(
                "the arguments are of other types: the builds of the program differ");
        }
        Arguments values = unpack<Arguments>(bytes);
        bytes = Bytes();
        const auto call = [&](auto&... value) -> R {
            return reinterpret_cast<R (*)(P...)>(function)(static_cast<P&&>(value)...);
        };
        outcome->kind = abi::kResult;
        if constexpr (std::is_void_v<R>) {
            std::apply(call, values);
        } else {
            outcome->payload.bytes = pack<R>(std::apply(call, values)).pass();
        }
        outcome->payload.type = fingerprint<R>();
    });
}

template <class R, class... P, class F, class... A>
std::shared_ptr<Child> spawn_as(Types<P...>, const std::string& name, const F& function,
                                A&&... arguments) {
    using Arguments = std::tuple<std::decay_t<P>...>;
    R (*pointer)(P...) = function;
    if (pointer == static_cast<R (*)(P...)>(nullptr)) throw Misuse("spawn was given no function");
    return context().spawn(name, &entry<R, P...>, reinterpret_cast<abi::Function>(pointer),
                           fingerprint<Arguments>(),
                           pack<Arguments>(Arguments(std::forward<A>(arguments)...)));
}

}  // namespace ppdsm::detail
