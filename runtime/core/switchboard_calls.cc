// What each call does, and when it can be answered.
#include <algorithm>

#include "runtime/core/switchboard.h"

namespace ppdsm {

namespace {

CallAnswer failure(abi::Code code, std::string text) { return {code, std::move(text), {}}; }

CallAnswer with(AnswerContent content) { return {abi::kDone, {}, std::move(content)}; }

CallAnswer misuse(std::string text) { return failure(abi::kMisuse, std::move(text)); }

}  // namespace

Switchboard::Attempt Switchboard::attempt(ThreadId id, Thread& me, const Call& call) {
    if (!open_ && !std::holds_alternative<call::Open>(call)) {
        return misuse("there is no virtual computer");
    }
    return std::visit([&](const auto& each) { return on_call(id, me, each); }, call);
}

/// What ends any wait, and is said before anything is done. A deadlock goes first, since it is said
/// once and to all, also to those that are cancelled because of it.
Switchboard::Attempt Switchboard::interrupted(ThreadId id, Thread& me) const {
    if (!me.deadlock.empty()) {
        return failure(abi::kDeadlock, std::exchange(me.deadlock, std::string()));
    }
    if (me.cancelled) return failure(abi::kCancelled, label(id) + " was cancelled");
    return std::nullopt;
}

// Beginning and ending.

Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::Begin&) {
    if (me.cancelled) return failure(abi::kCancelled, label(id) + " was cancelled before it began");
    return with(Beginning{me.parent, me.name, me.place, me.arguments});
}

/// Waits for the workers without which the program does not want to begin.
Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::Open& open) {
    if (id != kRootThread) return misuse("a virtual thread belongs to a computer already");
    if (open_) return misuse("there is a virtual computer already");
    if (workers_.size() < open.options.min_workers) return std::nullopt;
    open_ = true;
    me.closing = false;
    mailbox_bytes_ =
        open.options.mailbox_bytes == 0 ? settings_.mailbox_bytes : open.options.mailbox_bytes;
    slots_ = std::uint64_t{open.options.workers} * std::max(1U, open.options.threads_per_worker);
    for (const std::string& peer : workers_) {
        const auto bytes = std::make_shared<const Bytes>(peer.begin(), peer.end());
        tell_root({abi::kWorkerJoined, kNoThread, {abi::kResult, {0, bytes}}, {}});
    }
    return with(kRootThread);
}

Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::Close& close) {
    if (id != kRootThread) return misuse("only the first virtual thread closes a computer");
    if (!std::exchange(me.closing, true)) {
        me.events.clear();
        me.event_bytes = 0;
        nudge(me.reporters);
        if (close.cancel) {
            std::vector<ThreadId> others;
            for (const auto& [other, thread] : threads_) others.push_back(other);
            for (const ThreadId other : others) {
                if (other != kRootThread) (void)on_call(id, me, call::Cancel{other});
            }
        }
    }
    if (threads_.size() > 1) return std::nullopt;
    open_ = false;
    mailboxes_.clear();
    me.mailbox.messages.clear();
    me.mailbox.used_bytes = 0;
    return CallAnswer{};
}

Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::Spawn& spawn) {
    if (auto stop = interrupted(id, me)) return stop;
    const ThreadId child_id{++last_thread_};
    Thread& child = threads_[child_id];
    child.parent = id;
    child.name = spawn.name.empty() ? "vthread " + std::to_string(last_thread_) : spawn.name;
    child.place = spawn.place;
    child.arguments = spawn.arguments;
    want_slot(child_id);
    return with(child_id);
}

Switchboard::Attempt Switchboard::on_call(ThreadId /*id*/, Thread& /*me*/,
                                          const call::Cancel& cancel) {
    if (cancel.thread == kRootThread) {
        return misuse("the first virtual thread of a computer cannot be cancelled");
    }
    Thread* thread = find(cancel.thread);
    if (thread == nullptr) return CallAnswer{};  // It has ended by itself.
    thread->cancelled = true;
    nudge(cancel.thread);
    if (thread->stage == Stage::kQueued) {
        const std::string text = label(cancel.thread) + " was cancelled before it began";
        end(cancel.thread,
            {abi::kStopped, {0, std::make_shared<const Bytes>(text.begin(), text.end())}});
    }
    return CallAnswer{};
}

/// Nobody hears of it before the process has ended and what it wrote is kept: until then it may
/// have to say so again.
Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::End& end) {
    if (id == kRootThread) return misuse("the program itself has no result");
    me.outcome = end.outcome;
    return CallAnswer{};
}

// Asking.

CallAnswer Switchboard::no_such_thread(ThreadId id) const {
    const bool was_there = id != kNoThread && static_cast<std::uint64_t>(id) <= last_thread_;
    if (was_there) return failure(abi::kThreadEnded, label(id) + " has ended");
    return misuse("there is no " + label(id));
}

Switchboard::Attempt Switchboard::on_call(ThreadId /*id*/, Thread& /*me*/,
                                          const call::Describe& describe) {
    const Thread* thread = find(describe.thread);
    if (thread == nullptr) return no_such_thread(describe.thread);
    return with(describe.field == abi::kPeer ? thread->peer : thread->name);
}

Switchboard::Attempt Switchboard::on_call(ThreadId /*id*/, Thread& /*me*/, const call::Members&) {
    std::vector<ThreadId> ids;
    for (const auto& [id, thread] : threads_) {
        if (id != kRootThread) ids.push_back(id);
    }
    return with(std::move(ids));
}

// Events.

Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::NextEvent&) {
    if (auto stop = interrupted(id, me)) return stop;
    if (me.events.empty()) return std::nullopt;
    ThreadEvent event = std::move(me.events.front());
    me.events.pop_front();
    me.event_bytes -= event.outcome.value.size();
    nudge(me.reporters);
    return with(std::move(event));
}

bool Switchboard::takes_report(const Thread& spawner, std::uint64_t size) const {
    return spawner.closing || spawner.events.empty() ||
           (spawner.events.size() < settings_.events &&
            spawner.event_bytes + size <= settings_.event_bytes);
}

Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::Report& report) {
    if (me.parent == kNoThread) {
        return misuse("nobody spawned this virtual thread: its partial results would go nowhere");
    }
    if (auto stop = interrupted(id, me)) return stop;
    const Thread* spawner = find(me.parent);
    if (spawner != nullptr && !takes_report(*spawner, report.value.size())) {
        if (!me.events.empty()) return failure(abi::kEvents, {});
        return std::nullopt;
    }
    add_event(me.parent, {abi::kPartial, id, {abi::kResult, report.value}, {}});
    return CallAnswer{};
}

// Messages.

Switchboard::Attempt Switchboard::on_call(ThreadId /*id*/, Thread& /*me*/,
                                          const call::OpenMailbox& open) {
    if (open.name.empty()) return misuse("a mailbox needs a name");
    auto found = std::find_if(mailboxes_.begin(), mailboxes_.end(),
                              [&](const Mailbox& mailbox) { return mailbox.name == open.name; });
    if (found == mailboxes_.end()) {
        Mailbox& made = mailboxes_.emplace_back();
        made.name = open.name;
        made.type = open.type;
        found = mailboxes_.end() - 1;
    }
    if (found->type != open.type) {
        return failure(abi::kTypeMismatch,
                       "mailbox \"" + open.name + "\" is one for values of another type");
    }
    return with(MailboxId{static_cast<std::uint64_t>(found - mailboxes_.begin()) + 1});
}

bool Switchboard::has_room(const Mailbox& mailbox, std::uint64_t size) const {
    return mailbox.messages.empty() ||
           mailbox.used_bytes + size + settings_.message_overhead_bytes <= mailbox_bytes_;
}

Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::Send& send) {
    if (send.value.size() > abi::kMaxPayloadBytes) {
        return failure(abi::kOversized, "a message of " + std::to_string(send.value.size()) +
                                            " bytes is too large; 1 GiB is the most");
    }
    if (auto stop = interrupted(id, me)) return stop;
    Mailbox* mailbox = find_mailbox(send.thread, send.mailbox);
    if (mailbox == nullptr) {
        if (send.mailbox == kOwnMailbox) return no_such_thread(send.thread);
        return misuse("there is no such mailbox");
    }
    if (!has_room(*mailbox, send.value.size())) {
        if (!me.events.empty()) return failure(abi::kEvents, {});
        return std::nullopt;
    }
    mailbox->used_bytes += send.value.size() + settings_.message_overhead_bytes;
    mailbox->messages.push_back({id, send.value});
    nudge(mailbox->waiters);
    return CallAnswer{};
}

Switchboard::Attempt Switchboard::on_call(ThreadId id, Thread& me, const call::Receive& receive) {
    if (auto stop = interrupted(id, me)) return stop;
    Mailbox* mailbox = find_mailbox(id, receive.mailbox);
    if (mailbox == nullptr) return misuse("there is no such mailbox");
    auto& messages = mailbox->messages;
    const auto found =
        std::find_if(messages.begin(), messages.end(), [&](const ThreadMessage& message) {
            return message.value.type == receive.type &&
                   (receive.sender == kNoThread || receive.sender == message.sender);
        });
    if (found == messages.end()) {
        if (!me.events.empty()) return failure(abi::kEvents, {});
        return std::nullopt;
    }
    ThreadMessage message = std::move(*found);
    messages.erase(found);
    mailbox->used_bytes -= message.value.size() + settings_.message_overhead_bytes;
    nudge(mailbox->waiters);
    return with(std::move(message));
}

}  // namespace ppdsm
