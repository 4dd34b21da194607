// The one simulator of ppdsm: hosts, processes and the links between them, in virtual time. All
// that happens follows from the seed, so a failure is replayed by its seed.
//
// A host runs at most one process (a Node) at a time. Processes talk over links that behave as TCP
// does: first in, first out; a lost segment comes late rather than never; what cannot be delivered
// waits, and breaks the link after a while; a killed process closes its links and its host refuses
// connections; a host that vanished does neither. A process that does not get the processor
// (paused, or run in slices) handles what has come in when it runs again, its timer first, as libuv
// does.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "runtime/core/seeded_random.h"

namespace ppdsm::sim {

using TimeUs = std::int64_t;
using HostId = std::uint32_t;
/// A message of whatever protocol; both ends know its type.
using Payload = std::shared_ptr<const void>;

inline constexpr TimeUs kNever = INT64_MAX;
inline constexpr TimeUs kMillisecond = 1'000;
inline constexpr TimeUs kSecond = 1'000'000;

/// What the path from one host to another does to what travels on it.
struct Path {
    TimeUs min_delay_us = 100;
    TimeUs max_delay_us = 600;
    double loss = 0;  ///< Of a segment: it is sent again after 200 ms, 400 ms, ...
    double duplicate =
        0;               ///< The message is handled twice. TCP does not; protocols should bear it.
    double reorder = 0;  ///< The message may overtake. As before.
};

/// How much of a processor a process gets.
struct Speed {
    TimeUs run_us = 0;  ///< Of each `period_us`; 0: all of it.
    TimeUs period_us = 0;
    TimeUs event_cost_us = 50;  ///< Processor time to handle one event.
};

struct NetworkRules {
    Path path;
    TimeUs connect_timeout_us = 5 * kSecond;
    TimeUs first_syn_retry_us = 1 * kSecond;
    TimeUs first_retransmission_us = 200 * kMillisecond;
    TimeUs longest_retransmission_us = 5 * kSecond;
    TimeUs link_timeout_us = 10 * kSecond;  ///< Unacknowledged for so long, a link breaks.
};

class Simulator;

/// What a process may do. Valid during the call that it is given to.
class Port {
public:
    Port(Simulator& simulator, HostId self) : simulator_(simulator), self_(self) {}

    [[nodiscard]] HostId self() const { return self_; }
    [[nodiscard]] TimeUs now_us() const;
    /// Dropped when there is no link.
    void send(HostId to, Payload payload);
    /// Gives one of on_link_opened, on_connect_failed.
    void connect(HostId to);
    /// What waits is dropped. We are not told of it, the other end is.
    void close(HostId peer);
    /// Takes the place of the wakeup before.
    void wake_at(TimeUs at_us);

private:
    Simulator& simulator_;
    HostId self_;
};

/// A process. It is destroyed when it is killed; what shall be durable it keeps elsewhere.
class Node {
public:
    Node() = default;
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;
    virtual ~Node() = default;

    virtual void on_start(Port& port) = 0;
    virtual void on_timer(Port& port) = 0;
    virtual void on_message(Port& port, HostId from, const Payload& payload) = 0;
    virtual void on_link_opened(Port& port, HostId peer, std::uint64_t peer_instance,
                                bool dialled) = 0;
    virtual void on_link_closed(Port& port, HostId peer) = 0;
    virtual void on_connect_failed(Port& port, HostId peer, bool refused) = 0;
};

class Simulator {
public:
    /// Makes the process of a host; `instance` is new with each start.
    using NodeFactory = std::function<std::unique_ptr<Node>(HostId host, std::uint64_t instance)>;

    Simulator(std::uint64_t seed, std::size_t hosts, NodeFactory factory, NetworkRules rules = {});

    // Time.
    [[nodiscard]] TimeUs now_us() const { return now_us_; }
    void run_for(TimeUs duration_us);
    /// Looks every `step_us`; false when it did not come true in time.
    bool run_until(const std::function<bool()>& condition, TimeUs within_us,
                   TimeUs step_us = 5 * kMillisecond);
    void at(TimeUs at_us, std::function<void()> action);

    // Faults. A fault that is there already, or a host in no state for it, is no error.
    void start(HostId host);
    void kill(HostId host);  ///< As kill -9: the kernel closes its links.
    void vanish(
        HostId host);  ///< Power cut: no packet comes from it any more. start() brings it back.
    void pause(HostId host, TimeUs duration_us);
    void set_speed(HostId host, const Speed& speed) { hosts_.at(host).speed = speed; }
    void cut(HostId from, HostId to, bool is_cut = true);  ///< This direction only.
    void cut_both(HostId left, HostId right, bool is_cut = true);
    void partition(const std::vector<HostId>& left, const std::vector<HostId>& right);
    void heal();  ///< All cuts.
    void set_path(const Path& path) { rules_.path = path; }
    void set_path(HostId from, HostId to, const Path& path) { paths_[{from, to}] = path; }

    // What is true.
    [[nodiscard]] std::size_t host_count() const { return hosts_.size(); }
    [[nodiscard]] bool is_running(HostId host) const { return hosts_.at(host).node != nullptr; }
    [[nodiscard]] std::uint64_t instance(HostId host) const { return hosts_.at(host).instance; }
    [[nodiscard]] Node* node(HostId host) const { return hosts_.at(host).node.get(); }
    [[nodiscard]] SeededRandom& random() { return random_; }
    [[nodiscard]] std::uint64_t delivered_messages() const { return delivered_messages_; }
    /// Handled by this host's process since the simulation began.
    [[nodiscard]] std::uint64_t events_of(HostId host) const { return hosts_.at(host).handled; }

private:
    friend class Port;

    enum class ItemKind : std::uint8_t { kStart, kMessage, kAccept, kOpened, kClosed, kFailed };
    /// Something for a process to handle.
    struct Item {
        ItemKind kind = ItemKind::kMessage;
        HostId peer = 0;
        std::uint64_t epoch = 0;    ///< Of the link that it belongs to; an attempt's number.
        std::uint64_t attempt = 0;  ///< kAccept, kOpened.
        bool refused = false;       ///< kFailed.
        Payload payload;
    };
    struct Host {
        std::unique_ptr<Node> node;
        std::uint64_t instance = 0;
        std::uint64_t process = 0;  ///< Changes with each start and end.
        bool vanished = false;
        Speed speed;
        TimeUs slice_phase_us = 0;
        TimeUs paused_until_us = 0;
        TimeUs busy_until_us = 0;
        TimeUs wake_at_us = kNever;
        TimeUs timer_event_us = kNever;  ///< The earliest one that is queued.
        bool run_queued = false;
        std::deque<Item> inbox;
        std::uint64_t handled = 0;
    };
    struct Direction {
        TimeUs last_delivery_us = 0;
        TimeUs opened_us = 0;         ///< Nothing overtakes the opening of its link.
        std::deque<Item> waiting;     ///< What cannot pass.
        TimeUs waiting_since_us = 0;  ///< When `waiting` is not empty.
        bool flush_queued = false;
    };
    struct Link {
        std::uint64_t epoch_at[2] = {0, 0};  ///< 0: this end is closed. [0]: the lower host.
        Direction direction[2];              ///< [0]: from the lower host.
    };
    struct Attempt {
        HostId from = 0;
        HostId to = 0;
        std::uint64_t process = 0;
        TimeUs deadline_us = 0;
        TimeUs retry_us = 0;
    };
    enum class Happening : std::uint8_t {
        kArrival,      ///< `item` reaches `host`.
        kRun,          ///< `host` may go on.
        kTimer,        ///< `host` asked for it.
        kFlush,        ///< From `host` to `item.peer`: what waited may pass.
        kLinkTimeout,  ///< The same: has it waited too long?
        kReset,        ///< `host` learns that its link of `item.epoch` to `item.peer` is no more.
        kSyn,          ///< Attempt `item.attempt` reaches the other host.
        kGiveUp,       ///< Attempt `item.attempt` ends.
        kAction,       ///< actions_[item.attempt].
    };
    struct Event {
        TimeUs at_us = 0;
        std::uint64_t number = 0;
        Happening what = Happening::kRun;
        HostId host = 0;
        std::uint64_t process = 0;
        Item item;
    };
    static bool later(const Event& left, const Event& right) {
        return left.at_us != right.at_us ? left.at_us > right.at_us : left.number > right.number;
    }

    void push(TimeUs at_us, Happening what, HostId host) { push(at_us, what, host, Item()); }
    void push(TimeUs at_us, Happening what, HostId host, Item item);
    void handle(Event event);
    void on_arrival(HostId host, Item item);
    void on_run(HostId host);
    void on_timer(HostId host);
    void on_flush(HostId from, HostId to);
    void on_link_timeout(HostId from, HostId to);
    void on_syn(std::uint64_t number);
    void on_give_up(std::uint64_t number);
    void give(HostId host, Item item);
    void queue_run(HostId host);
    void run_one(HostId host);
    void dispatch(HostId host, const Item& item);
    void accept(HostId host, const Item& item);
    void opened(HostId host, const Item& item);
    void close_end(HostId host, HostId peer);
    void reset(HostId host, HostId peer, std::uint64_t epoch);
    void end_process(HostId host, bool silently);
    void transmit(HostId from, HostId to, Item item);
    void deliver(HostId from, HostId to, Item item);
    void flush_what_can_pass();
    [[nodiscard]] TimeUs runnable_at(const Host& host) const;
    [[nodiscard]] const Path& path(HostId from, HostId to) const;
    [[nodiscard]] TimeUs delay_us(HostId from, HostId to);
    [[nodiscard]] bool is_blocked(HostId from, HostId to) const;
    Link& link(HostId left, HostId right);
    std::uint64_t& epoch_at(HostId host, HostId peer);
    Direction& direction(HostId from, HostId to);

    SeededRandom random_;
    NodeFactory factory_;
    NetworkRules rules_;
    std::vector<Host> hosts_;
    std::unordered_map<std::uint64_t, Link> links_;
    std::set<std::pair<HostId, HostId>> blocked_;  ///< Where something waits, or did lately.
    std::unordered_map<std::uint64_t, Attempt> attempts_;
    std::map<std::pair<HostId, HostId>, Path> paths_;
    std::vector<std::uint8_t> cut_;  ///< [from * hosts + to]
    std::vector<Event> events_;      ///< A heap.
    std::unordered_map<std::uint64_t, std::function<void()>> actions_;
    TimeUs now_us_ = kSecond;
    std::uint64_t next_number_ = 1;
    std::uint64_t last_instance_ = 0;  ///< Later starts have greater ones.
    std::uint64_t delivered_messages_ = 0;
};

}  // namespace ppdsm::sim
