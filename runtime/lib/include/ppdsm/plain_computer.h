// The plain run: a virtual computer inside one process. Virtual threads are std::threads, mailboxes
// are queues in memory, and one mutex guards all of a computer: clear before fast, so that
// debuggers and sanitizers show the program's own behaviour.
//
// A virtual thread that waits says for what (Wait). Whoever changes what it may wait for nudges it.
// Those that wait without a time limit and have not been nudged are stuck; when all that live are,
// nobody is left to nudge: a deadlock.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ppdsm/backend.h"

namespace ppdsm::detail::plain {

inline constexpr std::uint64_t kDefaultMailboxBytes = std::uint64_t{64} << 20;
inline constexpr std::uint64_t kMessageOverheadBytes =
    64;                                          ///< So that empty messages are bounded too.
inline constexpr std::size_t kMaxEvents = 4096;  ///< Partial results that wait for one spawner.
inline constexpr std::uint64_t kMaxEventBytes = std::uint64_t{64} << 20;
inline constexpr std::uint64_t kRoot = 1;
inline constexpr const char* kPeer = "localhost";

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;  ///< None: for ever.

inline Deadline deadline_after(std::int64_t timeout_ns) {
    if (timeout_ns < 0) return std::nullopt;
    const auto now = Clock::now();
    const auto most = Clock::time_point::max() - now;
    const auto wanted = std::chrono::nanoseconds(timeout_ns);
    return wanted >= most ? Clock::time_point::max() : now + wanted;
}

inline void release_buffer(abi::Buffer& buffer) {
    std::free(buffer.data);
    buffer = {};
}

inline abi::Code allocate_buffer(std::uint64_t size, abi::Buffer& buffer) {
    auto* data = static_cast<unsigned char*>(std::malloc(size == 0 ? 1 : size));
    if (data == nullptr) return abi::kNoMemory;
    buffer = {data, size, nullptr};
    return abi::kDone;
}

/// The text as a buffer; without memory for it, no text.
inline abi::Buffer text_buffer(const std::string& text) {
    abi::Buffer buffer{};
    if (allocate_buffer(text.size(), buffer) == abi::kDone) {
        std::copy(text.begin(), text.end(), buffer.data);
    }
    return buffer;
}

struct Member;

/// A mailbox, of a virtual thread or named.
struct Box {
    std::string name;  ///< Of a named one.
    std::uint64_t type = 0;
    std::deque<abi::Message> messages;
    std::uint64_t used_bytes = 0;
    std::vector<Member*> waiters;  ///< For a message or for room.

    Box() = default;
    Box(const Box&) = delete;
    Box& operator=(const Box&) = delete;
    ~Box() { clear(); }

    void clear() {
        for (auto& message : messages) release_buffer(message.payload.bytes);
        messages.clear();
        used_bytes = 0;
    }
    [[nodiscard]] bool has_room(std::uint64_t size, std::uint64_t capacity) const {
        return messages.empty() || used_bytes + size + kMessageOverheadBytes <= capacity;
    }
    [[nodiscard]] std::deque<abi::Message>::iterator find(const abi::Filter& filter) {
        return std::find_if(messages.begin(), messages.end(), [&](const abi::Message& message) {
            return message.payload.type == filter.type &&
                   (filter.sender == 0 || filter.sender == message.sender);
        });
    }
};

struct Wait {
    enum What : std::uint8_t { kEvent, kMessage, kRoom, kReportRoom, kAlone };
    What what = kEvent;
    std::uint64_t thread = 0;  ///< Whose end, or whose mailbox.
    Box* box = nullptr;
    const abi::Filter* filter = nullptr;
    std::uint64_t size = 0;
};

/// One virtual thread, while it lives. Guarded by its computer's mutex.
struct Member {
    std::uint64_t id = 0;
    std::uint64_t parent = 0;
    std::string name;
    std::condition_variable wake;
    Box box;
    std::deque<abi::Event> events;
    std::uint64_t event_bytes = 0;
    std::vector<Member*> reporters;  ///< Those that wait for room in `events`.
    const Wait* waiting = nullptr;
    bool stuck = false;  ///< Waits for ever, and nothing has come.
    bool cancelled = false;
    bool closing = false;  ///< Takes no events any more.
    bool has_slot = false;
    std::string deadlock;  ///< What everyone waited for, when that was found.

    Member() = default;
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
    ~Member() {
        for (auto& event : events) release_buffer(event.outcome.payload.bytes);
    }
    [[nodiscard]] bool takes_report(std::uint64_t size) const {
        return closing || events.empty() ||
               (events.size() < kMaxEvents && event_bytes + size <= kMaxEventBytes);
    }
};

class Computer {
public:
    using Lock = std::unique_lock<std::mutex>;

    explicit Computer(const abi::Options& options)
        : capacity_bytes_(options.mailbox_bytes == 0 ? kDefaultMailboxBytes
                                                     : options.mailbox_bytes),
          free_slots_(std::uint64_t{options.workers} * std::max(1U, options.threads_per_worker)),
          slots_bounded_(options.workers != 0) {
        auto root = std::make_unique<Member>();
        root->id = kRoot;
        root->name = "main";
        root->has_slot = true;
        abi::Event joined{};
        joined.kind = abi::kWorkerJoined;
        joined.outcome.payload.bytes = text_buffer(kPeer);
        root->events.push_back(joined);
        root->event_bytes = joined.outcome.payload.bytes.size;
        members_.emplace(kRoot, std::move(root));
    }

    Computer(const Computer&) = delete;
    Computer& operator=(const Computer&) = delete;
    ~Computer() = default;  // close() leaves no thread.

    Member& root() { return *members_.at(kRoot); }

    abi::Code spawn(Member& me, abi::SpawnRequest& request, std::uint64_t& id, std::string& why);
    abi::Code close(Member& me, bool cancel);
    abi::Code cancel(std::uint64_t thread, std::string& why);
    abi::Code next_event(Member& me, std::int64_t timeout_ns, std::uint64_t awaited,
                         abi::Event& event, std::string& why);
    abi::Code report(Member& me, abi::Payload& payload, std::string& why);
    abi::Code mailbox(const std::string& name, std::uint64_t type, std::uint64_t& id,
                      std::string& why);
    abi::Code send(Member& me, const abi::Address& to, abi::Payload& payload,
                   std::int64_t timeout_ns, std::string& why);
    abi::Code receive(Member& me, const abi::Filter& filter, std::int64_t timeout_ns,
                      abi::Message& message, std::string& why);
    abi::Code name(std::uint64_t thread, std::string& name, std::string& why);
    std::vector<std::uint64_t> spawned();

private:
    void run(Member& me, abi::SpawnRequest request);
    void finish(Lock& lock, Member& me, const abi::Outcome& outcome);

    [[nodiscard]] bool ready(const Member& member) const;
    abi::Code interrupted(Member& me, std::string& why) const;
    abi::Code await(Lock& lock, Member& me, const Wait& wait, const Deadline& deadline,
                    std::string& why);
    void become_stuck(Member& me);
    void nudge(Member& member);
    void nudge_all(const std::vector<Member*>& members) {
        for (Member* member : members) nudge(*member);
    }
    void check_deadlock();
    [[nodiscard]] std::string describe(const Member& member) const;
    [[nodiscard]] std::string label(std::uint64_t thread) const;

    void acquire_slot(Lock& lock, Member& me);
    void release_slot(Member& me);

    Member* find(std::uint64_t thread) const {
        const auto found = members_.find(thread);
        return found == members_.end() ? nullptr : found->second.get();
    }
    abi::Code no_such_thread(std::uint64_t thread, std::string& why) const;
    Box* box_of(const abi::Address& to);
    void join_finished(Lock& lock);

    std::mutex mutex_;
    std::uint64_t capacity_bytes_;
    std::map<std::uint64_t, std::unique_ptr<Member>> members_;  ///< Those that live.
    std::size_t stuck_ = 0;
    std::uint64_t last_id_ = kRoot;
    std::map<std::uint64_t, std::thread> threads_;
    std::vector<std::thread> finished_;       ///< To be joined.
    std::deque<std::unique_ptr<Box>> boxes_;  ///< Named ones; an id is a place here, from 1.
    std::uint64_t free_slots_;
    bool slots_bounded_;
    std::deque<Member*> slot_queue_;
};

// Waiting.

inline bool Computer::ready(const Member& member) const {
    const Wait& wait = *member.waiting;
    if (wait.what == Wait::kAlone) return members_.size() == 1;
    if (member.cancelled || !member.deadlock.empty() || !member.events.empty()) return true;
    switch (wait.what) {
        case Wait::kMessage: return wait.box->find(*wait.filter) != wait.box->messages.end();
        case Wait::kRoom:
            return (wait.thread != 0 && find(wait.thread) == nullptr) ||
                   wait.box->has_room(wait.size, capacity_bytes_);
        case Wait::kReportRoom: {
            const Member* parent = find(member.parent);
            return parent == nullptr || parent->takes_report(wait.size);
        }
        case Wait::kEvent:
        case Wait::kAlone: break;
    }
    return false;
}

/// What ends any wait, and is said before anything is done. A deadlock goes first, since it is said
/// once and to all, also to those that are cancelled because of it.
inline abi::Code Computer::interrupted(Member& me, std::string& why) const {
    if (!me.deadlock.empty()) {
        why = std::exchange(me.deadlock, {});
        return abi::kDeadlock;
    }
    if (me.cancelled) {
        why = label(me.id) + " was cancelled";
        return abi::kCancelled;
    }
    return abi::kDone;
}

inline void Computer::nudge(Member& member) {
    if (member.waiting == nullptr || !ready(member)) return;
    if (std::exchange(member.stuck, false)) --stuck_;
    member.wake.notify_one();
}

/// Also of one that was nudged and came too late: another took what there was.
inline void Computer::become_stuck(Member& me) {
    if (std::exchange(me.stuck, true)) return;
    ++stuck_;
    check_deadlock();
}

/// Waits until there is something to look at again (kDone, or kEvents if events came), or not to
/// (kTimedOut, or what interrupted). Its slot is another's meanwhile.
inline abi::Code Computer::await(Lock& lock, Member& me, const Wait& wait, const Deadline& deadline,
                                 std::string& why) {
    me.waiting = &wait;
    bool timed_out = false;
    if (!ready(me)) {
        release_slot(me);
        while (!ready(me) && !timed_out) {
            if (deadline) {
                timed_out = me.wake.wait_until(lock, *deadline) == std::cv_status::timeout;
            } else {
                become_stuck(me);
                if (!ready(me)) me.wake.wait(lock);
            }
        }
        if (std::exchange(me.stuck, false)) --stuck_;
        timed_out = timed_out && !ready(me);
        me.waiting = nullptr;
        acquire_slot(lock, me);
    }
    me.waiting = nullptr;
    if (const auto code = interrupted(me, why); code != abi::kDone) return code;
    if (wait.what != Wait::kAlone && !me.events.empty()) return abi::kEvents;
    return timed_out ? abi::kTimedOut : abi::kDone;
}

inline std::string Computer::label(std::uint64_t thread) const {
    const Member* member = find(thread);
    const std::string number = "virtual thread " + std::to_string(thread);
    return member == nullptr ? number : number + " (" + member->name + ")";
}

inline std::string Computer::describe(const Member& member) const {
    const Wait& wait = *member.waiting;
    std::string text = label(member.id) + " waits for ";
    switch (wait.what) {
        case Wait::kAlone: return text + "the end of all others";
        case Wait::kEvent:
            return text + (wait.thread == 0 ? "the end of any that it spawned"
                                            : "the end of " + label(wait.thread));
        case Wait::kReportRoom:
            return text + "room for a partial result at " + label(member.parent);
        case Wait::kRoom: text += "room in "; break;
        case Wait::kMessage:
            text += "a message of type " + std::string(wait.filter->type_name);
            if (wait.filter->sender != 0) text += " from " + label(wait.filter->sender);
            text += " in ";
            break;
    }
    if (!wait.box->name.empty()) return text + "mailbox \"" + wait.box->name + "\"";
    return text +
           (wait.what == Wait::kRoom ? "the mailbox of " + label(wait.thread) : "its mailbox");
}

inline void Computer::check_deadlock() {
    if (stuck_ == 0 || stuck_ != members_.size()) return;
    std::string text = "every virtual thread waits and no message is in flight:";
    for (const auto& [id, member] : members_) text += "\n  " + describe(*member);
    for (const auto& [id, member] : members_) {
        if (member->waiting->what == Wait::kAlone) continue;  // Its others end of this.
        member->deadlock = text;
        nudge(*member);
    }
}

// Slots: no more virtual threads run at a time than the workers have. The first one has its own.
// Who waits in a call of ours gives its slot up; who waits elsewhere keeps it.

inline void Computer::acquire_slot(Lock& lock, Member& me) {
    if (!slots_bounded_ || me.has_slot) return;
    if (free_slots_ > 0) {
        --free_slots_;
        me.has_slot = true;
        return;
    }
    slot_queue_.push_back(&me);
    while (!me.has_slot) me.wake.wait(lock);
}

inline void Computer::release_slot(Member& me) {
    if (!slots_bounded_ || me.id == kRoot || !std::exchange(me.has_slot, false)) return;
    if (slot_queue_.empty()) {
        ++free_slots_;
        return;
    }
    Member& next = *slot_queue_.front();
    slot_queue_.pop_front();
    next.has_slot = true;
    next.wake.notify_one();
}

}  // namespace ppdsm::detail::plain
