// Named mailboxes.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "ppdsm/self.h"

namespace ppdsm {

/// A mailbox of the virtual computer, by name: the first use of a name makes it, and it lasts as
/// long as the computer. Any virtual thread may send and receive; each message goes to one
/// receiver. Order, bounds and errors are those of Self's messages. A Mailbox is a handle, used by
/// the virtual thread that made it.
template <class T>
class Mailbox {
public:
    /// TypeMismatch if the name is in use for another type.
    explicit Mailbox(const std::string& name)
        : name_(name), maker_serial_(detail::context().serial()) {
        if constexpr (detail::require_portable<T>()) {
            detail::check(detail::backend().mailbox(name.data(), name.size(),
                                                    detail::fingerprint<T>(), &id_));
        }
    }

    [[nodiscard]] const std::string& name() const { return name_; }

    /// Waits while the mailbox is full.
    void send(const T& value) { detail::send_to<T>({0, id()}, value, {}); }
    /// False if it is full.
    [[nodiscard]] bool try_send(const T& value) {
        return detail::send_to<T>({0, id()}, value, detail::no_wait());
    }
    Message<T> receive() { return *detail::receive_from<T>(id(), {}, {}); }
    std::optional<Message<T>> try_receive() {
        return detail::receive_from<T>(id(), {}, detail::no_wait());
    }
    template <class Rep, class Period>
    std::optional<Message<T>> receive_for(std::chrono::duration<Rep, Period> limit) {
        return detail::receive_from<T>(id(), {}, detail::TimeLimit(limit));
    }

private:
    /// An id means another mailbox in another virtual computer, and in another process.
    [[nodiscard]] std::uint64_t id() const {
        if (detail::context().serial() != maker_serial_) {
            throw Misuse("mailbox \"" + name_ +
                         "\" is used by another virtual thread than the one that made this handle; "
                         "make one of that name there");
        }
        return id_;
    }

    std::string name_;
    std::uint64_t maker_serial_;
    std::uint64_t id_ = 0;
};

}  // namespace ppdsm
