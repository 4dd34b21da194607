#include "tests/sim/simulator.h"

#include <algorithm>
#include <utility>

#include "dsm/base/check.h"

namespace ppdsm::sim {

TimeUs Port::now_us() const { return simulator_.now_us_; }

void Port::send(HostId to, Payload payload) {
    const std::uint64_t epoch = simulator_.epoch_at(self_, to);
    if (epoch == 0) return;
    simulator_.transmit(
        self_, to, {Simulator::ItemKind::kMessage, self_, epoch, 0, false, std::move(payload)});
}

void Port::connect(HostId to) {
    const std::uint64_t number = simulator_.next_number_++;
    const NetworkRules& rules = simulator_.rules_;
    const TimeUs deadline_us = simulator_.now_us_ + rules.connect_timeout_us;
    simulator_.attempts_[number] = {self_, to, simulator_.hosts_.at(self_).process, deadline_us,
                                    rules.first_syn_retry_us};
    Simulator::Item item;
    item.attempt = number;
    simulator_.push(simulator_.now_us_ + simulator_.delay_us(self_, to), Simulator::Happening::kSyn,
                    to, item);
    simulator_.push(deadline_us, Simulator::Happening::kGiveUp, self_, item);
}

void Port::close(HostId peer) {
    std::uint64_t& epoch = simulator_.epoch_at(self_, peer);
    if (epoch == 0) return;
    simulator_.direction(self_, peer).waiting.clear();
    // A reset that is lost is not repeated: the other end then learns it when it next sends.
    if (!simulator_.is_blocked(self_, peer)) {
        simulator_.transmit(self_, peer,
                            {Simulator::ItemKind::kClosed, self_, epoch, 0, false, nullptr});
    }
    epoch = 0;
}

void Port::wake_at(TimeUs at_us) {
    Simulator::Host& host = simulator_.hosts_.at(self_);
    host.wake_at_us = at_us;
    if (at_us >= host.timer_event_us) return;
    host.timer_event_us = at_us;
    simulator_.push(at_us, Simulator::Happening::kTimer, self_);
}

Simulator::Simulator(std::uint64_t seed, std::size_t hosts, NodeFactory factory, NetworkRules rules)
    : random_(seed),
      factory_(std::move(factory)),
      rules_(rules),
      hosts_(hosts),
      cut_(hosts * hosts, 0) {
    for (Host& host : hosts_) host.slice_phase_us = static_cast<TimeUs>(random_.below(1 << 20));
}

void Simulator::run_for(TimeUs duration_us) {
    const TimeUs until_us = now_us_ + duration_us;
    while (!events_.empty() && events_.front().at_us <= until_us) {
        std::pop_heap(events_.begin(), events_.end(), later);
        Event event = std::move(events_.back());
        events_.pop_back();
        now_us_ = std::max(now_us_, event.at_us);
        handle(std::move(event));
    }
    now_us_ = until_us;
}

bool Simulator::run_until(const std::function<bool()>& condition, TimeUs within_us,
                          TimeUs step_us) {
    const TimeUs until_us = now_us_ + within_us;
    while (!condition()) {
        if (now_us_ >= until_us) return false;
        run_for(std::min(step_us, until_us - now_us_));
    }
    return true;
}

void Simulator::at(TimeUs at_us, std::function<void()> action) {
    Item item;
    item.attempt = next_number_++;
    actions_[item.attempt] = std::move(action);
    push(at_us, Happening::kAction, 0, item);
}

void Simulator::start(HostId id) {
    Host& host = hosts_.at(id);
    if (host.node) return;
    host.vanished = false;
    ++host.process;
    host.instance = ++last_instance_;
    host.busy_until_us = now_us_;
    host.node = factory_(id, host.instance);
    give(id, {ItemKind::kStart, id, 0, 0, false, nullptr});
    flush_what_can_pass();
}

void Simulator::kill(HostId host) { end_process(host, false); }

void Simulator::vanish(HostId host) {
    end_process(host, true);
    hosts_.at(host).vanished = true;
}

void Simulator::end_process(HostId id, bool silently) {
    Host& host = hosts_.at(id);
    if (!host.node) return;
    for (HostId peer = 0; peer < hosts_.size(); ++peer) {
        const auto found =
            links_.find((std::uint64_t{std::min(id, peer)} << 32) | std::max(id, peer));
        if (peer == id || found == links_.end()) continue;
        std::uint64_t& epoch = epoch_at(id, peer);
        if (epoch != 0 && !silently) {
            transmit(id, peer, {ItemKind::kClosed, id, epoch, 0, false, nullptr});
        }
        if (silently) direction(id, peer).waiting.clear();
        epoch = 0;
    }
    ++host.process;
    host.node.reset();
    host.inbox.clear();
    host.run_queued = false;
    host.wake_at_us = kNever;
    host.timer_event_us = kNever;
}

void Simulator::pause(HostId host, TimeUs duration_us) {
    TimeUs& until_us = hosts_.at(host).paused_until_us;
    until_us = std::max(until_us, now_us_ + duration_us);
}

void Simulator::cut(HostId from, HostId to, bool is_cut) {
    cut_.at(std::size_t{from} * hosts_.size() + to) = is_cut ? 1 : 0;
    if (!is_cut) flush_what_can_pass();
}

void Simulator::cut_both(HostId left, HostId right, bool is_cut) {
    cut(left, right, is_cut);
    cut(right, left, is_cut);
}

void Simulator::partition(const std::vector<HostId>& left, const std::vector<HostId>& right) {
    for (const HostId one : left) {
        for (const HostId other : right) cut_both(one, other);
    }
}

void Simulator::heal() {
    std::fill(cut_.begin(), cut_.end(), std::uint8_t{0});
    flush_what_can_pass();
}

void Simulator::push(TimeUs at_us, Happening what, HostId host, Item item) {
    events_.push_back(
        {at_us, next_number_++, what, host, hosts_.at(host).process, std::move(item)});
    std::push_heap(events_.begin(), events_.end(), later);
}

void Simulator::handle(Event event) {
    const bool same_process = hosts_.at(event.host).process == event.process;
    switch (event.what) {
        case Happening::kArrival: return on_arrival(event.host, std::move(event.item));
        case Happening::kRun:
            if (same_process) on_run(event.host);
            return;
        case Happening::kTimer:
            if (same_process) on_timer(event.host);
            return;
        case Happening::kFlush: return on_flush(event.host, event.item.peer);
        case Happening::kLinkTimeout: return on_link_timeout(event.host, event.item.peer);
        case Happening::kReset: return reset(event.host, event.item.peer, event.item.epoch);
        case Happening::kSyn: return on_syn(event.item.attempt);
        case Happening::kGiveUp: return on_give_up(event.item.attempt);
        case Happening::kAction: {
            const auto found = actions_.find(event.item.attempt);
            const std::function<void()> action = std::move(found->second);
            actions_.erase(found);
            return action();
        }
    }
}

void Simulator::on_arrival(HostId id, Item item) {
    Host& host = hosts_.at(id);
    if (host.vanished) return;
    if (host.node) return give(id, std::move(item));
    // The kernel of a host without the process answers with a reset.
    if (item.kind == ItemKind::kMessage || item.kind == ItemKind::kOpened) {
        Item answer;
        answer.peer = id;
        answer.epoch = item.epoch;
        push(now_us_ + delay_us(id, item.peer), Happening::kReset, item.peer, answer);
    }
}

void Simulator::give(HostId id, Item item) {
    hosts_.at(id).inbox.push_back(std::move(item));
    queue_run(id);
}

void Simulator::queue_run(HostId id) {
    Host& host = hosts_.at(id);
    if (host.run_queued) return;
    host.run_queued = true;
    push(runnable_at(host), Happening::kRun, id);
}

TimeUs Simulator::runnable_at(const Host& host) const {
    TimeUs at_us = std::max({now_us_, host.busy_until_us, host.paused_until_us});
    if (host.speed.run_us > 0) {
        const TimeUs in_period_us = (at_us + host.slice_phase_us) % host.speed.period_us;
        if (in_period_us >= host.speed.run_us) at_us += host.speed.period_us - in_period_us;
    }
    return at_us;
}

void Simulator::on_run(HostId id) {
    Host& host = hosts_.at(id);
    host.run_queued = false;
    if (runnable_at(host) > now_us_) return queue_run(id);
    const std::uint64_t process = host.process;
    run_one(id);
    if (host.process != process) return;
    host.busy_until_us = now_us_ + host.speed.event_cost_us;
    if (!host.inbox.empty() || host.wake_at_us <= now_us_) queue_run(id);
}

void Simulator::on_timer(HostId id) {
    Host& host = hosts_.at(id);
    host.timer_event_us = kNever;
    if (host.wake_at_us <= now_us_) return queue_run(id);
    if (host.wake_at_us == kNever) return;
    host.timer_event_us = host.wake_at_us;
    push(host.wake_at_us, Happening::kTimer, id);
}

void Simulator::run_one(HostId id) {
    Host& host = hosts_.at(id);
    ++host.handled;
    if (host.wake_at_us <= now_us_) {
        host.wake_at_us = kNever;
        Port port(*this, id);
        return host.node->on_timer(port);
    }
    if (host.inbox.empty()) return;
    const Item item = std::move(host.inbox.front());
    host.inbox.pop_front();
    dispatch(id, item);
}

void Simulator::dispatch(HostId id, const Item& item) {
    Node& node = *hosts_.at(id).node;
    Port port(*this, id);
    switch (item.kind) {
        case ItemKind::kStart: return node.on_start(port);
        case ItemKind::kAccept: return accept(id, item);
        case ItemKind::kOpened: return opened(id, item);
        case ItemKind::kFailed: return node.on_connect_failed(port, item.peer, item.refused);
        case ItemKind::kMessage: {
            if (epoch_at(id, item.peer) == item.epoch) {
                ++delivered_messages_;
                return node.on_message(port, item.peer, item.payload);
            }
            Item answer;
            answer.peer = id;
            answer.epoch = item.epoch;
            return push(now_us_ + delay_us(id, item.peer), Happening::kReset, item.peer, answer);
        }
        case ItemKind::kClosed: {
            if (epoch_at(id, item.peer) == item.epoch) close_end(id, item.peer);
            return;
        }
    }
}

// The accepting process has done its part of the handshake.
void Simulator::accept(HostId id, const Item& item) {
    const auto attempt = attempts_.find(item.attempt);
    if (attempt == attempts_.end()) return;  // The other side has given up.
    const HostId from = attempt->second.from;
    if (hosts_.at(from).process != attempt->second.process) return;
    std::uint64_t& mine = epoch_at(id, from);
    if (mine != 0 && mine == epoch_at(from, id)) return;  // They dialled each other at once.
    if (mine != 0) close_end(id, from);
    const std::uint64_t epoch = next_number_++;
    epoch_at(id, from) = epoch;
    transmit(id, from, {ItemKind::kOpened, id, epoch, item.attempt, false, nullptr});
    Port port(*this, id);
    hosts_.at(id).node->on_link_opened(port, from, hosts_.at(from).instance, false);
}

void Simulator::opened(HostId id, const Item& item) {
    const bool awaited = attempts_.erase(item.attempt) > 0;
    if (!awaited || epoch_at(item.peer, id) != item.epoch) {
        return reset(item.peer, id, item.epoch);
    }
    if (epoch_at(id, item.peer) != 0) close_end(id, item.peer);
    epoch_at(id, item.peer) = item.epoch;
    Port port(*this, id);
    hosts_.at(id).node->on_link_opened(port, item.peer, hosts_.at(item.peer).instance, true);
}

void Simulator::close_end(HostId host, HostId peer) {
    epoch_at(host, peer) = 0;
    direction(host, peer).waiting.clear();
    Port port(*this, host);
    hosts_.at(host).node->on_link_closed(port, peer);
}

void Simulator::reset(HostId host, HostId peer, std::uint64_t epoch) {
    if (epoch == 0 || epoch_at(host, peer) != epoch || !hosts_.at(host).node) return;
    give(host, {ItemKind::kClosed, peer, epoch, 0, false, nullptr});
}

void Simulator::transmit(HostId from, HostId to, Item item) {
    Direction& way = direction(from, to);
    if (!way.waiting.empty() || is_blocked(from, to)) {
        if (way.waiting.empty()) {
            way.waiting_since_us = now_us_;
            blocked_.emplace(from, to);
            Item check;
            check.peer = to;
            push(now_us_ + rules_.link_timeout_us, Happening::kLinkTimeout, from, check);
        }
        way.waiting.push_back(std::move(item));
        return;
    }
    deliver(from, to, std::move(item));
}

void Simulator::deliver(HostId from, HostId to, Item item) {
    const Path& way = path(from, to);
    Direction& state = direction(from, to);
    TimeUs at_us = now_us_ + delay_us(from, to);
    TimeUs again_us = rules_.first_retransmission_us;
    while (random_.chance(way.loss)) {
        at_us += again_us;
        again_us = std::min(again_us * 2, rules_.longest_retransmission_us);
    }
    if (!random_.chance(way.reorder) || item.kind != ItemKind::kMessage) {
        at_us = std::max(at_us, state.last_delivery_us);
        state.last_delivery_us = at_us;
    }
    at_us = std::max(at_us, state.opened_us);
    if (item.kind == ItemKind::kOpened) state.opened_us = at_us;
    if (item.kind == ItemKind::kMessage && random_.chance(way.duplicate)) {
        push(at_us + delay_us(from, to), Happening::kArrival, to, item);
    }
    push(at_us, Happening::kArrival, to, std::move(item));
}

void Simulator::flush_what_can_pass() {
    std::erase_if(blocked_, [this](const auto& way) {
        return direction(way.first, way.second).waiting.empty();
    });
    for (const auto& [from, to] : blocked_) {
        Direction& way = direction(from, to);
        if (way.flush_queued || is_blocked(from, to)) continue;
        // The sender's kernel tries again after a time that has doubled with each failure.
        const TimeUs waited_us = now_us_ - way.waiting_since_us;
        const TimeUs longest_us =
            std::clamp(waited_us, rules_.first_retransmission_us, rules_.longest_retransmission_us);
        way.flush_queued = true;
        Item item;
        item.peer = to;
        push(now_us_ + random_.between(0, longest_us), Happening::kFlush, from, item);
    }
}

void Simulator::on_flush(HostId from, HostId to) {
    Direction& way = direction(from, to);
    way.flush_queued = false;
    if (is_blocked(from, to)) return;
    std::deque<Item> waiting = std::move(way.waiting);
    way.waiting.clear();
    for (Item& item : waiting) deliver(from, to, std::move(item));
}

void Simulator::on_link_timeout(HostId from, HostId to) {
    Direction& way = direction(from, to);
    if (way.waiting.empty()) return;
    const TimeUs due_us = way.waiting_since_us + rules_.link_timeout_us;
    if (due_us > now_us_) {
        Item check;
        check.peer = to;
        return push(due_us, Happening::kLinkTimeout, from, check);
    }
    const std::uint64_t epoch = way.waiting.back().epoch;
    way.waiting.clear();
    reset(from, to, epoch);
}

void Simulator::on_syn(std::uint64_t number) {
    const auto found = attempts_.find(number);
    if (found == attempts_.end()) return;
    Attempt& attempt = found->second;
    const HostId from = attempt.from;
    const HostId to = attempt.to;
    Item item;
    item.attempt = number;
    item.peer = from;
    const bool lost = random_.chance(path(from, to).loss);
    if (lost || is_blocked(from, to) || is_blocked(to, from)) {
        const TimeUs again_us = now_us_ + attempt.retry_us;
        attempt.retry_us *= 2;
        if (again_us < attempt.deadline_us) push(again_us, Happening::kSyn, to, item);
        return;
    }
    if (!hosts_.at(to).node) {
        attempts_.erase(found);
        if (hosts_.at(from).process != attempt.process) return;
        return push(now_us_ + delay_us(to, from), Happening::kArrival, from,
                    {ItemKind::kFailed, to, 0, number, true, nullptr});
    }
    // Two round trips of TCP and TLS; the process at the other end takes part in the last.
    const TimeUs handshake_us =
        delay_us(to, from) + delay_us(from, to) + delay_us(to, from) + delay_us(from, to);
    item.kind = ItemKind::kAccept;
    push(now_us_ + handshake_us, Happening::kArrival, to, item);
}

void Simulator::on_give_up(std::uint64_t number) {
    const auto found = attempts_.find(number);
    if (found == attempts_.end()) return;
    const Attempt attempt = found->second;
    attempts_.erase(found);
    if (hosts_.at(attempt.from).process != attempt.process) return;
    give(attempt.from, {ItemKind::kFailed, attempt.to, 0, number, false, nullptr});
}

const Path& Simulator::path(HostId from, HostId to) const {
    if (paths_.empty()) return rules_.path;
    const auto found = paths_.find({from, to});
    return found == paths_.end() ? rules_.path : found->second;
}

TimeUs Simulator::delay_us(HostId from, HostId to) {
    const Path& way = path(from, to);
    return random_.between(way.min_delay_us, way.max_delay_us);
}

bool Simulator::is_blocked(HostId from, HostId to) const {
    return hosts_[from].vanished || hosts_[to].vanished ||
           cut_[std::size_t{from} * hosts_.size() + to] != 0;
}

Simulator::Link& Simulator::link(HostId left, HostId right) {
    return links_[(std::uint64_t{std::min(left, right)} << 32) | std::max(left, right)];
}

std::uint64_t& Simulator::epoch_at(HostId host, HostId peer) {
    return link(host, peer).epoch_at[host < peer ? 0 : 1];
}

Simulator::Direction& Simulator::direction(HostId from, HostId to) {
    return link(from, to).direction[from < to ? 0 : 1];
}

}  // namespace ppdsm::sim
