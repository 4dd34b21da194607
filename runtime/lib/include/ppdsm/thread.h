// VirtualThread: what a spawner holds of a virtual thread it has spawned; when_all, when_any.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ppdsm/spawn.h"

namespace ppdsm {

namespace detail {
struct EndOrder;
}

/// A virtual thread that returns a T. Movable; used by the virtual thread that spawned it only
/// (Misuse otherwise). Dropping it does not end the virtual thread: it goes on, its result is
/// dropped, callbacks stay.
///
/// Calls that wait deliver this thread's callbacks meanwhile. Each may throw Deadlock, and
/// Cancelled in a virtual thread that was cancelled itself.
template <class T>
class VirtualThread {
public:
    /// Holds none; every other call than valid() throws Misuse.
    VirtualThread() = default;

    /// Waits until it has ended and gives its result, once. What it threw is thrown here: of its
    /// own type if that is the standard library's or ppdsm's, else RemoteError. ThreadCrashed if it
    /// ended otherwise.
    T get() {
        wait();
        return take();
    }

    /// Waits until it has ended; get() does not wait then.
    void wait() const { ended_within({}); }

    /// Whether it has ended, after waiting for that no longer than `limit`.
    template <class Rep, class Period>
    [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> limit) const {
        return ended_within(detail::TimeLimit(limit));
    }

    /// Asks it to end: it gets Cancelled from its next call of ppdsm's, or the one in which it
    /// waits. Does not wait for that. What it spawned is not cancelled. Nothing happens to one that
    /// has ended.
    void cancel() const {
        if (child().end_order != 0 || child().spawner == nullptr) return;
        require_spawner();
        detail::check(detail::backend().cancel(child().id));
    }

    /// `f(const P&)` is called with each partial result of type P that the virtual thread reports,
    /// in the order of reporting, each once, on this thread while it waits or polls. Set it right
    /// after spawn: what is delivered without a callback for its type is dropped. Gives *this, for
    /// chains.
    template <class P, class F>
    VirtualThread& on_partial(F f) {
        static_assert(std::is_invocable_v<F&, const P&>,
                      "ppdsm: on_partial<P> takes what can be called with a const P&");
        if constexpr (detail::require_portable<P>()) {
            if (child().spawner != nullptr) require_spawner();
            // By pointer, so that f need not be copyable.
            auto callback = std::make_shared<F>(std::move(f));
            child().handlers[detail::fingerprint<P>()] =
                std::make_shared<std::function<void(const detail::Bytes&)>>(
                    [callback = std::move(callback)](const detail::Bytes& bytes) {
                        (*callback)(static_cast<const P&>(detail::unpack<P>(bytes)));
                    });
        }
        return *this;
    }

    [[nodiscard]] bool valid() const { return child_ != nullptr; }
    [[nodiscard]] VirtualThreadId id() const { return {child().id}; }
    [[nodiscard]] const std::string& name() const { return child().name; }

    /// The peer that runs it now; once it has ended, ThreadEnded.
    [[nodiscard]] std::string peer() const {
        if (child().end_order != 0 || child().spawner == nullptr) {
            throw ThreadEnded("virtual thread " + child().name + " has ended");
        }
        require_spawner();
        abi::Buffer text{};
        detail::check(detail::backend().describe(child().id, abi::kPeer, &text));
        return detail::Bytes(text).text();
    }

private:
    friend class Self;
    friend struct detail::EndOrder;
    explicit VirtualThread(std::shared_ptr<detail::Child> child) : child_(std::move(child)) {}

    [[nodiscard]] detail::Child& child() const {
        if (child_ == nullptr) throw Misuse("this VirtualThread holds no virtual thread");
        return *child_;
    }

    void require_spawner() const {
        if (child().spawner == nullptr || child().spawner != detail::current_context()) {
            throw Misuse(
                "a VirtualThread is used by the virtual thread that spawned it, while its virtual "
                "computer lasts");
        }
    }

    bool ended_within(const detail::TimeLimit& limit) const {
        detail::Child& child = this->child();
        if (child.end_order != 0) return true;
        require_spawner();
        return child.spawner->wait_until([&] { return child.end_order != 0; }, child.id, limit);
    }

    T take() {
        detail::Child& child = this->child();
        if (std::exchange(child.taken, true))
            throw Misuse("the result of a virtual thread was taken already");
        const detail::Bytes bytes = std::move(child.bytes);
        switch (child.outcome) {
            case abi::kResult: break;
            case abi::kException: detail::rethrow_travelled(child.type, bytes.text());
            case abi::kStopped: throw Cancelled(bytes.text());
            case abi::kUnplaced: throw NoPeer(bytes.text());
            default: throw ThreadCrashed(bytes.text());
        }
        if (child.type != detail::fingerprint<T>()) {
            throw TypeMismatch("virtual thread " + child.name +
                               " returned another type: the builds of the program differ");
        }
        if constexpr (!std::is_void_v<T>) return detail::unpack<T>(bytes);
    }

    std::shared_ptr<detail::Child> child_;
};

namespace detail {

inline constexpr std::uint64_t kTaken = std::numeric_limits<std::uint64_t>::max();

/// A virtual thread's place in the order of ends, from 1; 0 while it runs, kTaken once its result
/// was taken.
struct EndOrder {
    template <class T>
    static std::uint64_t of(const VirtualThread<T>& thread) {
        return thread.child().taken ? kTaken : thread.child().end_order;
    }
};

/// The index of the thread that ended first among those whose result was not taken, or the count.
inline std::size_t first_ended(const std::vector<std::uint64_t>& end_orders) {
    std::size_t first = end_orders.size();
    std::uint64_t least = kTaken;
    for (std::size_t i = 0; i < end_orders.size(); ++i) {
        if (end_orders[i] != 0 && end_orders[i] < least) {
            least = end_orders[i];
            first = i;
        }
    }
    return first;
}

template <class EndOrders>
std::size_t wait_for_first(const EndOrders& end_orders) {
    std::size_t first = 0;
    context().wait_until(
        [&] {
            const std::vector<std::uint64_t> orders = end_orders();
            first = first_ended(orders);
            bool any_left = false;
            for (const auto order : orders) {
                any_left = any_left || order != kTaken;
            }
            if (!any_left)
                throw Misuse("when_any needs a virtual thread whose result was not taken");
            return first < orders.size();
        },
        0);
    return first;
}

template <class T>
auto get_or_monostate(VirtualThread<T>& thread) {
    if constexpr (std::is_void_v<T>) {
        thread.get();
        return std::monostate{};
    } else {
        return thread.get();
    }
}

}  // namespace detail

/// Waits until all have ended, then gives the results in their order (nothing for void). If some
/// threw, the first of those in this order is thrown.
template <class T>
auto when_all(std::vector<VirtualThread<T>>& threads) {
    for (auto& thread : threads) thread.wait();
    if constexpr (std::is_void_v<T>) {
        for (auto& thread : threads) thread.get();
    } else {
        std::vector<T> results;
        results.reserve(threads.size());
        for (auto& thread : threads) results.push_back(thread.get());
        return results;
    }
}

/// The same of different types, as a tuple; std::monostate in the place of void.
template <class... T>
auto when_all(VirtualThread<T>&... threads) {
    (threads.wait(), ...);
    return std::tuple<decltype(detail::get_or_monostate(threads))...>{
        detail::get_or_monostate(threads)...};
}

/// Waits until one has ended whose result was not taken, and gives its index; of several the one
/// that ended first. It takes no result: get() does. Misuse if no such thread is left.
template <class T>
std::size_t when_any(const std::vector<VirtualThread<T>>& threads) {
    return detail::wait_for_first([&] {
        std::vector<std::uint64_t> orders;
        orders.reserve(threads.size());
        for (const auto& thread : threads) orders.push_back(detail::EndOrder::of(thread));
        return orders;
    });
}

template <class... T>
std::size_t when_any(const VirtualThread<T>&... threads) {
    return detail::wait_for_first(
        [&] { return std::vector<std::uint64_t>{detail::EndOrder::of(threads)...}; });
}

}  // namespace ppdsm
