// Self: what the calling virtual thread can do: spawn, report, send, receive.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ppdsm/thread.h"

namespace ppdsm {

/// What came, and from whom.
template <class T>
struct Message {
    T value;
    VirtualThreadId sender;
};

/// How to spawn; what is empty is ppdsm's choice.
struct ThreadOptions {
    std::string name;
};

namespace detail {

/// False if there is no room; with no time limit it waits for that.
template <class T>
bool send_to(abi::Address to, const T& value, const TimeLimit& limit) {
    Bytes bytes = pack<T>(value);
    abi::Payload payload{fingerprint<T>(), bytes.get()};
    const auto code =
        context().through_events([&] { return backend().send(&to, &payload, limit.left_ns()); });
    if (code == abi::kFull || code == abi::kTimedOut) return false;
    check(code);
    bytes.pass();
    return true;
}

template <class T>
std::optional<Message<T>> receive_from(std::uint64_t mailbox, VirtualThreadId sender,
                                       const TimeLimit& limit) {
    static const std::string kTypeName(type_name<T>());
    const abi::Filter filter{mailbox, sender.value, fingerprint<T>(), kTypeName.c_str()};
    abi::Message message{};
    Context& me = context();
    me.poll();
    const auto code =
        me.through_events([&] { return backend().receive(&filter, limit.left_ns(), &message); });
    if (code == abi::kTimedOut) return std::nullopt;
    check(code);
    const Bytes bytes(message.payload.bytes);
    return Message<T>{unpack<T>(bytes), {message.sender}};
}

inline TimeLimit no_wait() { return TimeLimit(std::chrono::nanoseconds(0)); }

}  // namespace detail

/// The calling virtual thread; got from self(), and used on its own thread only.
///
/// Messages. Each virtual thread has a mailbox; what does not match a receive stays in it. Messages
/// of one sender to one mailbox arrive in the order of sending, each once. A mailbox is bounded in
/// bytes (VirtualComputerOptions::mailbox_bytes); a message that is larger than the bound goes into
/// an empty one. A value has at most 1 GiB (Oversized).
///
/// All calls that wait deliver callbacks meanwhile, and throw Deadlock when no virtual thread of
/// the computer can go on. All but id() and the like throw Cancelled once this virtual thread was
/// cancelled.
class Self {
public:
    [[nodiscard]] VirtualThreadId id() const { return {detail::context().id()}; }
    /// Who spawned it; of main, none (value 0).
    [[nodiscard]] VirtualThreadId parent() const { return {detail::context().parent()}; }
    [[nodiscard]] std::string name() const { return describe(abi::kName); }
    /// The peer that runs it now.
    [[nodiscard]] std::string peer() const { return describe(abi::kPeer); }

    /// Runs f(arguments...) as a new virtual thread of the same virtual computer. f is a function
    /// or a captureless lambda; arguments and result are copied there and back (portable.h says
    /// which types can). NoPeer if nobody may run it.
    template <class F, class... A,
              class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, ThreadOptions>>>
    auto spawn(F&& f, A&&... arguments) {
        return spawn(ThreadOptions{}, std::forward<F>(f), std::forward<A>(arguments)...);
    }
    template <class F, class... A>
    auto spawn(const ThreadOptions& options, F&& f, A&&... arguments) {
        using Callable = std::decay_t<F>;
        if constexpr (detail::require_spawnable<Callable>()) {
            using Signature = detail::SignatureOf<Callable>;
            using Result = typename Signature::Result;
            constexpr typename Signature::Parameters kParameters{};
            if constexpr (detail::require_call<Result>(kParameters)) {
                constexpr bool kFits =
                    std::is_invocable_v<typename Signature::Pointer, std::decay_t<A>...>;
                static_assert(kFits,
                              "ppdsm: the arguments given to spawn are not those of the function");
                if constexpr (kFits) {
                    return VirtualThread<Result>(detail::spawn_as<Result>(
                        kParameters, options.name, f, std::forward<A>(arguments)...));
                }
            }
        }
    }

    /// Gives a partial result to whoever spawned this virtual thread (VirtualThread::on_partial
    /// there). Waits while thousands are undelivered; is dropped if that one has ended. Misuse in
    /// main.
    template <class T>
    void report(const T& value) {
        if constexpr (detail::require_portable<T>()) {
            detail::Bytes bytes = detail::pack<T>(value);
            abi::Payload payload{detail::fingerprint<T>(), bytes.get()};
            detail::check(detail::context().through_events(
                [&] { return detail::backend().report(&payload); }));
            bytes.pass();
        }
    }

    /// Sends to one virtual thread, this one allowed; waits while its mailbox is full. ThreadEnded
    /// if it has.
    template <class T>
    void send(VirtualThreadId to, const T& value) {
        if constexpr (detail::require_portable<T>()) detail::send_to({to.value, 0}, value, {});
    }
    /// The same without waiting: false if its mailbox is full.
    template <class T>
    [[nodiscard]] bool try_send(VirtualThreadId to, const T& value) {
        if constexpr (detail::require_portable<T>()) {
            return detail::send_to({to.value, 0}, value, detail::no_wait());
        }
        return false;
    }
    /// Sends to each in turn; those that have ended are passed over, and the first is thrown as
    /// ThreadEnded when all others have it.
    template <class T>
    void multicast(const std::vector<VirtualThreadId>& to, const T& value) {
        std::optional<ThreadEnded> ended;
        for (const auto id : to) {
            try {
                send(id, value);
            } catch (const ThreadEnded& error) {
                if (!ended) ended = error;
            }
        }
        if (ended) throw ThreadEnded(*ended);
    }
    /// Sends to every virtual thread of the computer that was spawned and has not ended; not to
    /// this one, nor to main.
    template <class T>
    void broadcast(const T& value) {
        abi::Buffer raw{};
        detail::check(detail::backend().members(&raw));
        const detail::Bytes ids(raw);
        detail::Source source(raw.data, raw.size);
        while (source.left() > 0) {
            const VirtualThreadId to{detail::Codec<std::uint64_t>::read(source)};
            try {
                if (to != id()) send(to, value);
            } catch (const ThreadEnded&) {  // NOLINT(bugprone-empty-catch): it has ended just now.
            }
        }
    }

    /// Waits for a message of type T, from `sender` if one is named.
    template <class T>
    Message<T> receive(VirtualThreadId sender = {}) {
        return *receive_within<T>(sender, {});
    }
    /// The same without waiting: none if there is none now.
    template <class T>
    std::optional<Message<T>> try_receive(VirtualThreadId sender = {}) {
        return receive_within<T>(sender, detail::no_wait());
    }
    /// The same, waiting no longer than `limit`.
    template <class T, class Rep, class Period>
    std::optional<Message<T>> receive_for(std::chrono::duration<Rep, Period> limit,
                                          VirtualThreadId sender = {}) {
        return receive_within<T>(sender, detail::TimeLimit(limit));
    }

    /// Delivers callbacks that are due, without waiting; the place to be cancelled for one that
    /// computes.
    void poll() { detail::context().poll(); }
    /// Waits until all that this virtual thread has spawned have ended; throws nothing of what they
    /// threw.
    void wait_all() {
        auto& me = detail::context();
        me.wait_until([&] { return me.all_have_ended(); }, 0);
    }
    /// A line for people, with this virtual thread's name: plainly, on standard error.
    void log(std::string_view text) {
        detail::check(detail::backend().log(text.data(), text.size()));
    }

private:
    template <class T>
    std::optional<Message<T>> receive_within(VirtualThreadId sender,
                                             const detail::TimeLimit& limit) {
        if constexpr (detail::require_portable<T>()) {
            return detail::receive_from<T>(0, sender, limit);
        } else {
            return std::nullopt;
        }
    }
    [[nodiscard]] std::string describe(abi::Field field) const {
        abi::Buffer text{};
        detail::check(detail::backend().describe(id().value, field, &text));
        return detail::Bytes(text).text();
    }
};

/// The calling virtual thread. Misuse on a thread that is none: virtual threads are what spawn
/// began, and the thread with a VirtualComputer.
inline Self& self() {
    static_cast<void>(detail::context());
    static Self self;
    return self;
}

}  // namespace ppdsm
