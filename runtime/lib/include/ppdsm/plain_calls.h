// The plain run's calls: beginning and ending virtual threads, events, messages. Part of plain.h.
#pragma once

#include "ppdsm/plain_computer.h"

namespace ppdsm::detail::plain {

/// Who the calling thread is. Without a destructor: a VirtualComputer of static storage duration
/// goes after the objects of thread storage duration. The computer is owned by whoever sits on its
/// first seat, from open() to close(), which outlives all others; a process that ends in between
/// leaves it to them.
struct Seat {
    Computer* computer;
    Member* member;
};

__attribute__((visibility("default"))) inline Seat& seat() {
    static thread_local Seat seat{};
    return seat;
}

// Beginning and ending.

inline abi::Code Computer::spawn(Member& me, abi::SpawnRequest& request, std::uint64_t& id,
                                 std::string& why) {
    Lock lock(mutex_);
    if (const auto code = interrupted(me, why); code != abi::kDone) return code;
    join_finished(lock);
    const std::uint64_t child_id = last_id_ + 1;
    auto child = std::make_unique<Member>();
    child->id = child_id;
    child->parent = me.id;
    child->name = request.name_size == 0 ? "vthread " + std::to_string(child_id)
                                         : std::string(request.name, request.name_size);
    Member& member = *members_.emplace(child_id, std::move(child)).first->second;
    try {
        std::thread& thread = threads_[child_id];
        // It blocks on the mutex until all of it is in place.
        thread = std::thread([this, &member, request] {
            seat() = {this, &member};
            run(member, request);
            seat() = {};
        });
    } catch (const std::exception& error) {
        threads_.erase(child_id);
        members_.erase(child_id);
        why = std::string("localhost: no thread could be started: ") + error.what();
        return abi::kNoPeer;
    }
    id = last_id_ = child_id;
    return abi::kDone;
}

inline void Computer::run(Member& me, abi::SpawnRequest request) {
    abi::Outcome outcome{};
    Lock lock(mutex_);
    acquire_slot(lock, me);
    if (me.cancelled) {
        outcome.kind = abi::kStopped;
        outcome.payload.bytes = text_buffer(label(me.id) + " was cancelled before it began");
        release_buffer(request.arguments.bytes);
    } else {
        lock.unlock();
        request.entry(request.function, &request.arguments, &outcome);
        lock.lock();
    }
    finish(lock, me, outcome);
}

inline void Computer::finish(Lock& lock, Member& me, const abi::Outcome& outcome) {
    release_slot(me);
    const std::uint64_t id = me.id;
    Member* parent = find(me.parent);
    abi::Event ended{};
    ended.kind = abi::kEnded;
    ended.thread = id;
    ended.outcome = outcome;
    if (parent == nullptr || parent->closing) {
        release_buffer(ended.outcome.payload.bytes);
    } else {
        parent->event_bytes += ended.outcome.payload.bytes.size;
        parent->events.push_back(ended);
    }
    // Those that wait at it look at their boxes once more, so it may go only after they were nudged
    // out; they know it as gone by then.
    const auto node = members_.extract(id);
    nudge_all(node.mapped()->box.waiters);
    nudge_all(node.mapped()->reporters);
    if (parent != nullptr) nudge(*parent);
    nudge(root());
    finished_.push_back(std::move(threads_.at(id)));
    threads_.erase(id);
    check_deadlock();
    lock.unlock();
}

inline void Computer::join_finished(Lock& lock) {
    auto finished = std::exchange(finished_, {});
    lock.unlock();
    for (auto& thread : finished) thread.join();
    lock.lock();
}

inline abi::Code Computer::close(Member& me, bool cancel) {
    Lock lock(mutex_);
    me.closing = true;
    for (auto& event : std::exchange(me.events, {})) release_buffer(event.outcome.payload.bytes);
    nudge_all(me.reporters);
    if (cancel) {
        for (const auto& [id, member] : members_) {
            member->cancelled = id != kRoot;
            nudge(*member);
        }
    }
    Wait wait;
    wait.what = Wait::kAlone;
    std::string why;
    await(lock, me, wait, std::nullopt, why);
    join_finished(lock);
    return abi::kDone;
}

inline abi::Code Computer::cancel(std::uint64_t thread, std::string& why) {
    const Lock lock(mutex_);
    if (thread == kRoot) {
        why = "the first virtual thread of a computer cannot be cancelled";
        return abi::kMisuse;
    }
    if (Member* member = find(thread); member != nullptr) {
        member->cancelled = true;
        nudge(*member);
    }
    return abi::kDone;
}

// Events.

inline abi::Code Computer::next_event(Member& me, std::int64_t timeout_ns, std::uint64_t awaited,
                                      abi::Event& event, std::string& why) {
    const auto deadline = deadline_after(timeout_ns);
    Lock lock(mutex_);
    if (const auto code = interrupted(me, why); code != abi::kDone) return code;
    if (me.events.empty()) {
        Wait wait;
        wait.thread = awaited;
        const auto code = await(lock, me, wait, deadline, why);
        if (code != abi::kEvents) return code;
    }
    event = me.events.front();
    me.events.pop_front();
    me.event_bytes -= event.outcome.payload.bytes.size;
    nudge_all(me.reporters);
    return abi::kDone;
}

inline abi::Code Computer::report(Member& me, abi::Payload& payload, std::string& why) {
    Lock lock(mutex_);
    if (me.parent == 0) {
        why = "nobody spawned this virtual thread: its partial results would go nowhere";
        return abi::kMisuse;
    }
    if (const auto code = interrupted(me, why); code != abi::kDone) return code;
    Member* parent = find(me.parent);
    if (parent != nullptr && !parent->takes_report(payload.bytes.size)) {
        Wait wait;
        wait.what = Wait::kReportRoom;
        wait.size = payload.bytes.size;
        parent->reporters.push_back(&me);
        const auto code = await(lock, me, wait, std::nullopt, why);
        parent = find(me.parent);
        if (parent != nullptr) {
            auto& reporters = parent->reporters;
            reporters.erase(std::find(reporters.begin(), reporters.end(), &me));
        }
        if (code != abi::kDone) return code;
    }
    if (parent == nullptr || parent->closing) {
        release_buffer(payload.bytes);
        return abi::kDone;
    }
    abi::Event event{};
    event.kind = abi::kPartial;
    event.thread = me.id;
    event.outcome.payload = payload;
    parent->event_bytes += payload.bytes.size;
    parent->events.push_back(event);
    nudge(*parent);
    return abi::kDone;
}

// Messages.

inline abi::Code Computer::mailbox(const std::string& name, std::uint64_t type, std::uint64_t& id,
                                   std::string& why) {
    const Lock lock(mutex_);
    if (name.empty()) {
        why = "a mailbox needs a name";
        return abi::kMisuse;
    }
    auto found = std::find_if(boxes_.begin(), boxes_.end(),
                              [&](const auto& box) { return box->name == name; });
    if (found == boxes_.end()) {
        auto box = std::make_unique<Box>();
        box->name = name;
        box->type = type;
        found = boxes_.insert(boxes_.end(), std::move(box));
    } else if ((*found)->type != type) {
        why = "mailbox \"" + name + "\" was opened for another type of message";
        return abi::kTypeMismatch;
    }
    id = static_cast<std::uint64_t>(found - boxes_.begin()) + 1;
    return abi::kDone;
}

inline Box* Computer::box_of(const abi::Address& to) {
    if (to.mailbox != 0)
        return to.mailbox <= boxes_.size() ? boxes_[to.mailbox - 1].get() : nullptr;
    Member* member = find(to.thread);
    return member == nullptr ? nullptr : &member->box;
}

inline abi::Code Computer::no_such_thread(std::uint64_t thread, std::string& why) const {
    if (thread == 0 || thread > last_id_) {
        why = "there is no virtual thread " + std::to_string(thread);
        return abi::kMisuse;
    }
    why = "virtual thread " + std::to_string(thread) + " has ended";
    return abi::kThreadEnded;
}

inline abi::Code Computer::send(Member& me, const abi::Address& to, abi::Payload& payload,
                                std::int64_t timeout_ns, std::string& why) {
    if (payload.bytes.size > abi::kMaxPayloadBytes) {
        why = "a message of " + std::to_string(payload.bytes.size) + " bytes; 1 GiB is the most";
        return abi::kOversized;
    }
    const auto deadline = deadline_after(timeout_ns);
    Lock lock(mutex_);
    if (const auto code = interrupted(me, why); code != abi::kDone) return code;
    Box* box = box_of(to);
    while (box != nullptr && !box->has_room(payload.bytes.size, capacity_bytes_)) {
        Wait wait;
        wait.what = Wait::kRoom;
        wait.thread = to.thread;
        wait.box = box;
        wait.size = payload.bytes.size;
        box->waiters.push_back(&me);
        const auto code = await(lock, me, wait, deadline, why);
        box = box_of(to);
        if (box != nullptr) {
            box->waiters.erase(std::find(box->waiters.begin(), box->waiters.end(), &me));
        }
        if (code != abi::kDone) return code == abi::kTimedOut ? abi::kFull : code;
    }
    if (box == nullptr) return no_such_thread(to.thread, why);
    box->used_bytes += payload.bytes.size + kMessageOverheadBytes;
    box->messages.push_back({me.id, payload});
    nudge_all(box->waiters);
    return abi::kDone;
}

inline abi::Code Computer::receive(Member& me, const abi::Filter& filter, std::int64_t timeout_ns,
                                   abi::Message& message, std::string& why) {
    const auto deadline = deadline_after(timeout_ns);
    Lock lock(mutex_);
    if (const auto code = interrupted(me, why); code != abi::kDone) return code;
    Box* box = filter.mailbox == 0 ? &me.box : box_of({0, filter.mailbox});
    if (box == nullptr) {
        why = "there is no such mailbox";
        return abi::kMisuse;
    }
    auto found = box->find(filter);
    while (found == box->messages.end()) {
        Wait wait;
        wait.what = Wait::kMessage;
        wait.box = box;
        wait.filter = &filter;
        box->waiters.push_back(&me);
        const auto code = await(lock, me, wait, deadline, why);
        box->waiters.erase(std::find(box->waiters.begin(), box->waiters.end(), &me));
        if (code != abi::kDone) return code;
        found = box->find(filter);
    }
    message = *found;
    box->messages.erase(found);
    box->used_bytes -= message.payload.bytes.size + kMessageOverheadBytes;
    nudge_all(box->waiters);
    return abi::kDone;
}

inline abi::Code Computer::name(std::uint64_t thread, std::string& name, std::string& why) {
    const Lock lock(mutex_);
    const Member* member = find(thread);
    if (member == nullptr) return no_such_thread(thread, why);
    name = member->name;
    return abi::kDone;
}

inline std::vector<std::uint64_t> Computer::spawned() {
    const Lock lock(mutex_);
    std::vector<std::uint64_t> ids;
    for (const auto& [id, member] : members_) {
        if (id != kRoot) ids.push_back(id);
    }
    return ids;
}

}  // namespace ppdsm::detail::plain
