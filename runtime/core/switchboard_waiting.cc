// Who waits, for what, and who may run.
#include <utility>

#include "runtime/core/switchboard.h"

namespace ppdsm {

using namespace switchboard;

namespace {

bool waits_for_peers(const Call& call) { return std::holds_alternative<call::Open>(call); }
bool waits_to_close(const Call& call) { return std::holds_alternative<call::Close>(call); }

/// May others know of it, once it is answered so?
bool is_seen(const Call& call, abi::Code code) {
    if (code != abi::kDone) return false;
    struct Seen {
        bool operator()(const call::Begin&) const { return false; }
        bool operator()(const call::Describe&) const { return false; }
        bool operator()(const call::Members&) const { return false; }
        bool operator()(const call::NextEvent&) const { return false; }
        bool operator()(const call::OpenMailbox&) const { return false; }
        /// What was taken from a mailbox that others use cannot be put back to its place.
        bool operator()(const call::Receive& receive) const {
            return receive.mailbox != kOwnMailbox;
        }
        bool operator()(const call::Open&) const { return true; }
        bool operator()(const call::Close&) const { return true; }
        bool operator()(const call::Spawn&) const { return true; }
        bool operator()(const call::Cancel&) const { return true; }
        bool operator()(const call::Report&) const { return true; }
        bool operator()(const call::Send&) const { return true; }
        bool operator()(const call::End&) const { return false; }
    };
    return std::visit(Seen{}, call);
}

}  // namespace

/// Until nothing changes any more.
void Switchboard::settle(Effects& effects) {
    do {
        while (!nudged_.empty()) {
            const ThreadId id = *nudged_.begin();
            nudged_.erase(nudged_.begin());
            Thread* thread = find(id);
            if (thread != nullptr && thread->waiting) try_call(id, *thread, effects);
        }
        hand_out_slots(effects);
    } while (!nudged_.empty() || find_deadlock());
}

void Switchboard::try_call(ThreadId id, Thread& thread, Effects& effects) {
    const Waiting& waiting = *thread.waiting;
    Attempt answer = attempt(id, thread, waiting.call.call);
    if (!answer && waiting.until_us && now_us_ >= *waiting.until_us) {
        const bool is_send = std::holds_alternative<call::Send>(waiting.call.call);
        answer = CallAnswer{is_send ? abi::kFull : abi::kTimedOut, {}, {}};
    }
    if (answer) return finish(id, thread, std::move(*answer), effects);
    if (std::set<ThreadId>* waiters = waiters_of(thread)) waiters->insert(id);
    if (waiting.until_us) deadlines_us_.emplace(*waiting.until_us, id);
    const bool is_stuck = !waiting.until_us && !waits_for_peers(waiting.call.call);
    if (is_stuck && !std::exchange(thread.is_stuck, true)) ++stuck_;
    release_slot(id, thread);
}

/// Those who wait for the same; null: only its own events end the wait.
std::set<ThreadId>* Switchboard::waiters_of(const Thread& thread) {
    const ThreadCall& called = thread.waiting->call;
    Mailbox* mailbox = nullptr;
    if (const auto* send = std::get_if<call::Send>(&called.call)) {
        mailbox = find_mailbox(send->thread, send->mailbox);
    } else if (const auto* receive = std::get_if<call::Receive>(&called.call)) {
        mailbox = find_mailbox(called.thread, receive->mailbox);
    } else if (std::holds_alternative<call::Report>(called.call)) {
        Thread* spawner = find(thread.parent);
        return spawner == nullptr ? nullptr : &spawner->reporters;
    }
    return mailbox == nullptr ? nullptr : &mailbox->waiters;
}

void Switchboard::stop_waiting(ThreadId id, Thread& thread) {
    if (!thread.waiting) return;
    if (std::set<ThreadId>* waiters = waiters_of(thread)) waiters->erase(id);
    if (thread.waiting->until_us) deadlines_us_.erase({*thread.waiting->until_us, id});
    if (std::exchange(thread.is_stuck, false)) --stuck_;
    thread.waiting.reset();
}

/// The call is made; its thread hears of it when it may run.
void Switchboard::finish(ThreadId id, Thread& thread, CallAnswer answer, Effects& effects) {
    const ThreadCall called = thread.waiting->call;
    stop_waiting(id, thread);
    ++thread.answered;
    thread.given.push_back(
        {called.number, called.digest, answer, is_seen(called.call, answer.code)});
    // Who asks in vain lets another run first, so that programs that poll make progress.
    const bool in_vain =
        called.timeout_ns == 0 && (answer.code == abi::kTimedOut || answer.code == abi::kFull);
    if (in_vain && !slot_queue_.empty()) release_slot(id, thread);
    if (id != kRootThread && !thread.has_slot) {
        thread.is_held = true;
        return want_slot(id);
    }
    effects.emplace_back(Answer{id, called.number, std::move(answer)});
}

// Slots. Main has its own.

void Switchboard::release_slot(ThreadId id, Thread& thread) {
    if (id == kRootThread || !std::exchange(thread.has_slot, false)) return;
    --used_slots_;
}

void Switchboard::hand_out_slots(Effects& effects) {
    while (!slot_queue_.empty() && (slots_ == 0 || used_slots_ < slots_)) {
        const ThreadId id = slot_queue_.front();
        slot_queue_.pop_front();
        Thread& thread = threads_.at(id);
        thread.has_slot = true;
        ++used_slots_;
        if (thread.stage == Stage::kQueued) {
            thread.stage = Stage::kStarting;
            effects.emplace_back(Start{id, thread.name});
        } else if (std::exchange(thread.is_held, false)) {
            const Given& last = thread.given.back();
            effects.emplace_back(Answer{id, last.number, last.answer});
        }
    }
}

// Deadlock.

/// True: there is one, and all that are in it have been nudged.
bool Switchboard::find_deadlock() {
    if (!open_ || stuck_ != threads_.size() || threads_.empty()) return false;
    std::string text = "every virtual thread waits and no message is in flight:";
    for (const auto& [id, thread] : threads_) text += "\n  " + describe_wait(thread);
    bool found = false;
    for (auto& [id, thread] : threads_) {
        if (waits_to_close(thread.waiting->call.call)) continue;  // Its others end of this.
        thread.deadlock = text;
        nudge(id);
        found = true;
    }
    return found;
}

std::string Switchboard::label(ThreadId id) const {
    const std::string number = "virtual thread " + std::to_string(static_cast<std::uint64_t>(id));
    const Thread* thread = find(id);
    return thread == nullptr ? number : number + " (" + thread->name + ")";
}

std::string Switchboard::describe_wait(const Thread& thread) const {
    const ThreadCall& called = thread.waiting->call;
    std::string text = label(called.thread) + " waits for ";
    MailboxId mailbox{};
    if (waits_to_close(called.call)) return text + "the end of all others";
    if (const auto* open = std::get_if<call::Open>(&called.call)) {
        return text + std::to_string(open->options.min_workers) + " workers; there are " +
               std::to_string(workers_.size());
    }
    if (const auto* next = std::get_if<call::NextEvent>(&called.call)) {
        return text + (next->awaited == kNoThread ? "the end of any that it spawned"
                                                  : "the end of " + label(next->awaited));
    }
    if (std::holds_alternative<call::Report>(called.call)) {
        return text + "room for a partial result at " + label(thread.parent);
    }
    if (const auto* send = std::get_if<call::Send>(&called.call)) {
        if (send->mailbox == kOwnMailbox)
            return text + "room in the mailbox of " + label(send->thread);
        text += "room in ";
        mailbox = send->mailbox;
    } else if (const auto* receive = std::get_if<call::Receive>(&called.call)) {
        text += "a message of type " + receive->type_name;
        if (receive->sender != kNoThread) text += " from " + label(receive->sender);
        if (receive->mailbox == kOwnMailbox) return text + " in its mailbox";
        text += " in ";
        mailbox = receive->mailbox;
    }
    return text + "mailbox \"" + mailboxes_[static_cast<std::uint64_t>(mailbox) - 1].name + "\"";
}

}  // namespace ppdsm
