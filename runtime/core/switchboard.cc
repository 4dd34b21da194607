#include "runtime/core/switchboard.h"

#include <algorithm>
#include <utility>

namespace ppdsm {

using namespace switchboard;

namespace {

std::shared_ptr<const Bytes> bytes_of(const std::string& text) {
    return std::make_shared<const Bytes>(text.begin(), text.end());
}

}  // namespace

Switchboard::Switchboard(SwitchboardSettings settings) : settings_(settings) {
    Thread& root = threads_[kRootThread];
    root.name = "main";
    root.stage = Stage::kRunning;
}

Switchboard::Thread* Switchboard::find(ThreadId id) {
    const auto found = threads_.find(id);
    return found == threads_.end() ? nullptr : &found->second;
}

const Switchboard::Thread* Switchboard::find(ThreadId id) const {
    const auto found = threads_.find(id);
    return found == threads_.end() ? nullptr : &found->second;
}

Switchboard::Mailbox* Switchboard::find_mailbox(ThreadId thread, MailboxId mailbox) {
    if (mailbox == kOwnMailbox) {
        Thread* owner = find(thread);
        return owner == nullptr ? nullptr : &owner->mailbox;
    }
    const auto place = static_cast<std::uint64_t>(mailbox);
    return place > mailboxes_.size() ? nullptr : &mailboxes_[place - 1];
}

std::map<ThreadId, Switchboard::ThreadState> Switchboard::threads() const {
    std::map<ThreadId, ThreadState> states;
    for (const auto& [id, thread] : threads_) {
        states[id] = {thread.name,
                      thread.peer,
                      thread.waiting ? describe_wait(thread) : "",
                      thread.mailbox.messages.size(),
                      thread.answered,
                      thread.stage != Stage::kQueued};
    }
    return states;
}

void Switchboard::step(std::int64_t now_us, const Event& event, Effects& effects) {
    now_us_ = now_us;
    if (failed_) return;
    std::visit([&](const auto& each) { on(each, effects); }, event);
    if (!failed_) settle(effects);
}

std::optional<std::int64_t> Switchboard::next_tick_us() const {
    if (deadlines_us_.empty()) return std::nullopt;
    return deadlines_us_.begin()->first;
}

void Switchboard::fail(std::string why, Effects& effects) {
    failed_ = true;
    effects.emplace_back(Failed{std::move(why)});
}

void Switchboard::on(const Tick&, Effects& /*effects*/) {
    for (const auto& [until_us, id] : deadlines_us_) {
        if (until_us > now_us_) break;
        nudge(id);
    }
}

// Calls, new and repeated.

void Switchboard::on(const Called& event, Effects& effects) {
    const ThreadCall& called = event.call;
    const ThreadId id = called.thread;
    Thread* thread = find(id);
    if (thread == nullptr) return;  // Its process goes as well.
    if (called.number <= thread->answered && !repeat(id, *thread, called, effects)) return;
    if (called.number != thread->answered + 1) {
        return fail(label(id) + " makes its call " + std::to_string(called.number) + ", but " +
                        std::to_string(thread->answered) +
                        " are known here: the record of its calls has lost its end",
                    effects);
    }
    if (thread->waiting) {
        if (thread->waiting->call.digest == called.digest) return;  // The same, said again.
        stop_waiting(id, *thread);
    }
    Waiting waiting{called, std::nullopt};
    if (called.timeout_ns >= 0) {
        constexpr std::int64_t kLongestUs = std::int64_t{100} * 365 * 24 * 3600 * 1'000'000;
        waiting.until_us = now_us_ + std::min(called.timeout_ns / 1000, kLongestUs);
    }
    thread->waiting = std::move(waiting);
    nudge(id);
}

/// True: it is another call than before, and is to be made.
bool Switchboard::repeat(ThreadId id, Thread& thread, const ThreadCall& called, Effects& effects) {
    if (called.number <= thread.covered) {
        fail(label(id) + " begins again before the generation that was the oldest kept", effects);
        return false;
    }
    const Given& before = thread.given[called.number - thread.covered - 1];
    if (before.digest != called.digest) return take_back(id, thread, called.number, effects);
    const bool is_due = !(thread.is_held && called.number == thread.answered);
    if (is_due) effects.emplace_back(Answer{id, called.number, before.answer});
    return false;
}

/// Undoes the calls from that number on, of a thread that makes others now. False: it cannot be.
bool Switchboard::take_back(ThreadId id, Thread& thread, std::uint64_t from_number,
                            Effects& effects) {
    const auto first =
        thread.given.begin() + static_cast<std::ptrdiff_t>(from_number - thread.covered - 1);
    const auto seen =
        std::find_if(first, thread.given.end(), [](const Given& given) { return given.was_seen; });
    if (seen != thread.given.end()) {
        fail(label(id) + " was resumed, and its call " + std::to_string(from_number) +
                 " is another than before, when others may already have seen its call " +
                 std::to_string(seen->number) +
                 ": its program does not repeat itself (does it depend on time or chance?)",
             effects);
        return false;
    }
    while (thread.given.size() > from_number - thread.covered - 1) {
        Given& last = thread.given.back();
        if (auto* message = std::get_if<ThreadMessage>(&last.answer.content)) {
            thread.mailbox.used_bytes += message->value.size() + settings_.message_overhead_bytes;
            thread.mailbox.messages.push_front(std::move(*message));
        } else if (auto* event = std::get_if<ThreadEvent>(&last.answer.content)) {
            thread.event_bytes += event->outcome.value.size();
            thread.events.push_front(std::move(*event));
        }
        thread.given.pop_back();
    }
    thread.answered = from_number - 1;
    thread.outcome.reset();
    stop_waiting(id, thread);
    return true;
}

void Switchboard::on(const Covered& event, Effects& /*effects*/) {
    Thread* thread = find(event.thread);
    if (thread == nullptr) return;
    // What waits for a slot has reached no process.
    const std::size_t kept = thread->is_held ? 1 : 0;
    while (thread->covered < event.calls && thread->given.size() > kept) {
        thread->given.pop_front();
        ++thread->covered;
    }
}

void Switchboard::on(const RolledBack& event, Effects& effects) {
    Thread* thread = find(event.thread);
    if (thread == nullptr) return;
    if (event.calls > thread->answered || event.calls < thread->covered) {
        return fail(label(event.thread) + " was resumed after call " + std::to_string(event.calls) +
                        ", but the calls from " + std::to_string(thread->covered) + " to " +
                        std::to_string(thread->answered) + " are known",
                    effects);
    }
    stop_waiting(event.thread, *thread);
    if (std::exchange(thread->is_held, false)) std::erase(slot_queue_, event.thread);
    // It runs, whether there is a slot or not.
    if (!std::exchange(thread->has_slot, true) && event.thread != kRootThread) ++used_slots_;
}

// Processes and peers.

void Switchboard::on(const Placed& event, Effects& effects) {
    Thread* thread = find(event.thread);
    if (thread == nullptr) {
        effects.emplace_back(Stop{event.thread});
        return;
    }
    const std::string before = std::exchange(thread->peer, event.peer);
    thread->stage = Stage::kRunning;
    if (before.empty() || before == event.peer) return;
    ThreadEvent moved{abi::kThreadMoved, event.thread, {}, before};
    moved.outcome.value.bytes = bytes_of(event.peer);
    tell_root(std::move(moved));
}

void Switchboard::on(const NotPlaced& event, Effects& /*effects*/) {
    if (event.thread == kRootThread || find(event.thread) == nullptr) return;
    end(event.thread, {abi::kUnplaced, {0, bytes_of(event.why)}});
}

void Switchboard::on(const Gone& event, Effects& effects) {
    const Thread* gone = find(event.thread);
    if (gone == nullptr) return;
    if (event.thread != kRootThread) {
        const ThreadOutcome crashed{abi::kCrashed, {0, bytes_of(event.how)}};
        return end(event.thread, gone->outcome.value_or(crashed));
    }
    // The program has ended.
    for (const auto& [id, thread] : threads_) {
        if (id != kRootThread && thread.stage != Stage::kQueued) effects.emplace_back(Stop{id});
    }
    threads_.clear();
    stuck_ = 0;
    slot_queue_.clear();
    deadlines_us_.clear();
    nudged_.clear();
}

void Switchboard::end(ThreadId id, const ThreadOutcome& outcome) {
    stop_waiting(id, threads_.at(id));
    const auto node = threads_.extract(id);
    const Thread& thread = node.mapped();
    std::erase(slot_queue_, id);
    if (thread.has_slot) --used_slots_;
    nudge(thread.mailbox.waiters);
    nudge(thread.reporters);
    nudge(kRootThread);
    add_event(thread.parent, {abi::kEnded, id, outcome, {}});
}

void Switchboard::add_event(ThreadId to, ThreadEvent event) {
    Thread* receiver = find(to);
    if (receiver == nullptr || receiver->closing) return;
    receiver->event_bytes += event.outcome.value.size();
    receiver->events.push_back(std::move(event));
    nudge(to);
}

void Switchboard::tell_root(ThreadEvent event) {
    if (open_) add_event(kRootThread, std::move(event));
}

void Switchboard::on(const WorkerJoined& event, Effects& /*effects*/) {
    if (!workers_.insert(event.peer).second) return;
    nudge(kRootThread);
    tell_root({abi::kWorkerJoined, kNoThread, {abi::kResult, {0, bytes_of(event.peer)}}, {}});
}

void Switchboard::on(const WorkerLost& event, Effects& /*effects*/) {
    if (workers_.erase(event.peer) == 0) return;
    tell_root({abi::kWorkerLost, kNoThread, {abi::kResult, {0, bytes_of(event.peer)}}, {}});
}

}  // namespace ppdsm
