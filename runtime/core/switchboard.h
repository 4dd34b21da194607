// The calls of a virtual computer's virtual threads, in one place: who lives, who spawned whom,
// whose messages and events wait, who waits for what. It lives at the deployer, and is what a
// program's answers depend on, all of them; so the calls, in the order in which they came, are its
// whole state.
//
// Recovery (message logging: Strom and Yemini 1985; Elnozahy et al. 2002, section 4). A virtual
// thread that dies goes on from its last generation, which covers its first calls. It repeats those
// that came after, and is given the answers that it was given the first time, until it has caught
// up: nobody else notices, and nobody else rolls back. Should it call otherwise than before (it
// read a clock, say), then what it had merely taken is given back; if others may have seen what it
// had done, the computer ends with an error, since no fault-free run could have shown both.
//
// Waiting. A call that cannot be answered yet waits; whoever changes what it may depend on has it
// tried again. When all that live wait without a time limit, nobody is left to change anything: a
// deadlock, found at once.
//
// Slots. `workers` times `threads_per_worker` virtual threads run at a time, and main. Who waits
// gives its slot up.
//
// Pure: time, calls and what happens to processes come in as events; answers, starts and stops go
// out as effects.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "runtime/core/thread_call.h"

namespace ppdsm {

struct SwitchboardSettings {
    std::uint64_t mailbox_bytes = std::uint64_t{64} << 20;
    std::uint64_t event_bytes = std::uint64_t{64} << 20;  ///< Partial results at one spawner.
    std::size_t events = 4096;                            ///< Likewise.
    std::uint64_t message_overhead_bytes = 64;  ///< So that empty messages are bounded too.
};

namespace switchboard {

// Events.
struct Tick {};
/// The answer to a virtual thread's own number comes again when its call does.
struct Called {
    ThreadCall call;
};
/// A virtual thread has a process at `peer`: now, or again after a move.
struct Placed {
    ThreadId thread{};
    std::string peer;
};
/// Nobody may run it; `why` gives each peer's reason.
struct NotPlaced {
    ThreadId thread{};
    std::string why;
};
/// A generation is committed in which it has the answers up to that number.
struct Covered {
    ThreadId thread{};
    std::uint64_t calls = 0;
};
/// It begins again with the call after that number.
struct RolledBack {
    ThreadId thread{};
    std::uint64_t calls = 0;
};
/// Its process has ended, for good, with all that it wrote; `how` says by which signal or code, and
/// where.
struct Gone {
    ThreadId thread{};
    std::string how;
};
struct WorkerJoined {
    std::string peer;
};
struct WorkerLost {
    std::string peer;
};
using Event = std::variant<Tick, Called, Placed, NotPlaced, Covered, RolledBack, Gone, WorkerJoined,
                           WorkerLost>;

// Effects.
struct Answer {
    ThreadId thread{};
    std::uint64_t number = 0;
    CallAnswer answer;
};
/// A process for it is wanted: Placed or NotPlaced follows.
struct Start {
    ThreadId thread{};
    std::string name;
};
/// Its process is not wanted any more.
struct Stop {
    ThreadId thread{};
};
/// The computer cannot go on.
struct Failed {
    std::string why;
};
using Effect = std::variant<Answer, Start, Stop, Failed>;

}  // namespace switchboard

class Switchboard {
public:
    explicit Switchboard(SwitchboardSettings settings = {});

    void step(std::int64_t now_us, const switchboard::Event& event,
              std::vector<switchboard::Effect>& effects);
    /// When a Tick is due; none: when something happens.
    [[nodiscard]] std::optional<std::int64_t> next_tick_us() const;

    struct ThreadState {
        std::string name;
        std::string peer;  ///< Empty: it has no process yet.
        std::string waits_for;
        std::size_t messages = 0;
        std::uint64_t calls = 0;
        bool is_wanted = false;  ///< Start was said of it.
    };
    /// Those that live.
    [[nodiscard]] std::map<ThreadId, ThreadState> threads() const;

private:
    using Effects = std::vector<switchboard::Effect>;

    struct Mailbox {
        std::string name;  ///< Of a named one.
        std::uint64_t type = 0;
        std::deque<ThreadMessage> messages;
        std::uint64_t used_bytes = 0;
        std::set<ThreadId> waiters;  ///< For a message or for room.
    };
    /// A call that is not answered yet.
    struct Waiting {
        ThreadCall call;
        std::optional<std::int64_t> until_us;
    };
    /// An answer that its thread may ask for again.
    struct Given {
        std::uint64_t number = 0;
        std::uint64_t digest = 0;
        CallAnswer answer;
        bool was_seen = false;  ///< Others may know of the call.
    };
    enum class Stage : std::uint8_t { kQueued, kStarting, kRunning };
    struct Thread {
        ThreadId parent{};
        std::string name;
        std::string peer;
        Stage stage = Stage::kQueued;
        EntryPoint place;
        Value arguments;
        Mailbox mailbox;
        std::deque<ThreadEvent> events;
        std::uint64_t event_bytes = 0;
        std::set<ThreadId> reporters;  ///< Those that wait for room in `events`.
        std::optional<Waiting> waiting;
        bool is_held = false;   ///< Its last answer waits for a slot.
        bool is_stuck = false;  ///< Waits, and for no peer or time.
        bool has_slot = false;
        bool cancelled = false;
        bool closing = false;                  ///< Takes no events any more.
        std::string deadlock;                  ///< What everyone waited for, when that was found.
        std::optional<ThreadOutcome> outcome;  ///< Counts when its process has ended.
        std::uint64_t answered = 0;
        std::uint64_t covered = 0;
        std::deque<Given> given;  ///< Of calls covered + 1 to answered.
    };

    // Events (switchboard.cc).
    void on(const switchboard::Tick&, Effects& effects);
    void on(const switchboard::Called& event, Effects& effects);
    void on(const switchboard::Placed& event, Effects& effects);
    void on(const switchboard::NotPlaced& event, Effects& effects);
    void on(const switchboard::Covered& event, Effects& effects);
    void on(const switchboard::RolledBack& event, Effects& effects);
    void on(const switchboard::Gone& event, Effects& effects);
    void on(const switchboard::WorkerJoined& event, Effects& effects);
    void on(const switchboard::WorkerLost& event, Effects& effects);

    bool repeat(ThreadId id, Thread& thread, const ThreadCall& called, Effects& effects);
    bool take_back(ThreadId id, Thread& thread, std::uint64_t from_number, Effects& effects);
    void end(ThreadId id, const ThreadOutcome& outcome);
    void tell_root(ThreadEvent event);
    void add_event(ThreadId to, ThreadEvent event);
    void fail(std::string why, Effects& effects);

    // Calls (switchboard_calls.cc): the answer, or none yet.
    using Attempt = std::optional<CallAnswer>;
    Attempt attempt(ThreadId id, Thread& me, const Call& call);
    Attempt on_call(ThreadId id, Thread& me, const call::Begin&);
    Attempt on_call(ThreadId id, Thread& me, const call::Open& open);
    Attempt on_call(ThreadId id, Thread& me, const call::Close& close);
    Attempt on_call(ThreadId id, Thread& me, const call::Describe& describe);
    Attempt on_call(ThreadId id, Thread& me, const call::Members&);
    Attempt on_call(ThreadId id, Thread& me, const call::Spawn& spawn);
    Attempt on_call(ThreadId id, Thread& me, const call::Cancel& cancel);
    Attempt on_call(ThreadId id, Thread& me, const call::NextEvent&);
    Attempt on_call(ThreadId id, Thread& me, const call::Report& report);
    Attempt on_call(ThreadId id, Thread& me, const call::OpenMailbox& open);
    Attempt on_call(ThreadId id, Thread& me, const call::Send& send);
    Attempt on_call(ThreadId id, Thread& me, const call::Receive& receive);
    Attempt on_call(ThreadId id, Thread& me, const call::End& end);
    [[nodiscard]] Attempt interrupted(ThreadId id, Thread& me) const;
    [[nodiscard]] CallAnswer no_such_thread(ThreadId id) const;
    [[nodiscard]] bool takes_report(const Thread& spawner, std::uint64_t size) const;
    [[nodiscard]] bool has_room(const Mailbox& mailbox, std::uint64_t size) const;

    // Waiting and slots (switchboard_waiting.cc).
    void try_call(ThreadId id, Thread& thread, Effects& effects);
    void stop_waiting(ThreadId id, Thread& thread);
    void finish(ThreadId id, Thread& thread, CallAnswer answer, Effects& effects);
    void nudge(ThreadId id) { nudged_.insert(id); }
    void nudge(const std::set<ThreadId>& ids) { nudged_.insert(ids.begin(), ids.end()); }
    void settle(Effects& effects);
    bool find_deadlock();
    void want_slot(ThreadId id) { slot_queue_.push_back(id); }
    void release_slot(ThreadId id, Thread& thread);
    void hand_out_slots(Effects& effects);
    [[nodiscard]] std::set<ThreadId>* waiters_of(const Thread& thread);
    [[nodiscard]] std::string label(ThreadId id) const;
    [[nodiscard]] std::string describe_wait(const Thread& thread) const;

    Thread* find(ThreadId id);
    [[nodiscard]] const Thread* find(ThreadId id) const;
    Mailbox* find_mailbox(ThreadId thread, MailboxId mailbox);

    SwitchboardSettings settings_;
    std::int64_t now_us_ = 0;
    bool open_ = false;
    bool failed_ = false;
    std::map<ThreadId, Thread> threads_;  ///< Those that live.
    std::uint64_t last_thread_ = static_cast<std::uint64_t>(kRootThread);
    std::deque<Mailbox> mailboxes_;  ///< Named ones; an id is a place here, from 1.
    std::uint64_t mailbox_bytes_ = 0;
    std::set<std::string> workers_;
    std::size_t stuck_ = 0;
    std::uint64_t slots_ = 0;  ///< 0: as many as want.
    std::uint64_t used_slots_ = 0;
    std::deque<ThreadId> slot_queue_;
    std::set<ThreadId> nudged_;  ///< To be tried again.
    std::set<std::pair<std::int64_t, ThreadId>> deadlines_us_;
};

}  // namespace ppdsm
