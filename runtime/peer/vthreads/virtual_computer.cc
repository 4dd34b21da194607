#include "runtime/peer/vthreads/virtual_computer.h"

#include <algorithm>

#include "dsm/base/wall_clock.h"
#include "runtime/peer/vthreads/call_codec.h"

namespace ppdsm {

using namespace switchboard;

Result<std::unique_ptr<VirtualComputer>> VirtualComputer::open(Loop& loop,
                                                               const std::filesystem::path& journal,
                                                               Callbacks callbacks) {
    std::unique_ptr<VirtualComputer> computer(new VirtualComputer(loop, std::move(callbacks)));
    PPDSM_ASSIGN(computer->journal_,
                 CallJournal::open(journal, [&](std::int64_t at_us, const Event& event) {
                     computer->replay(at_us, event);
                 }));
    computer->clock_offset_us_ =
        std::max<std::int64_t>(computer->journal_->last_us() - monotonic_now_us(), 0);
    return computer;
}

VirtualComputer::VirtualComputer(Loop& loop, Callbacks callbacks)
    : loop_(loop), callbacks_(std::move(callbacks)), timer_(loop, [this] { step(Tick{}, {}); }) {}

VirtualComputer::~VirtualComputer() { *alive_ = false; }

std::int64_t VirtualComputer::now_us() const { return monotonic_now_us() + clock_offset_us_; }

/// What came of it then came of it, or is asked for again.
void VirtualComputer::replay(std::int64_t at_us, const Event& event) {
    std::vector<Effect> effects;
    switchboard_.step(at_us, event, effects);
    if (const auto* joined = std::get_if<WorkerJoined>(&event)) workers_.insert(joined->peer);
    if (const auto* lost = std::get_if<WorkerLost>(&event)) workers_.erase(lost->peer);
}

Status VirtualComputer::on_call(ThreadId thread, ByteView call) {
    PPDSM_ASSIGN(ThreadCall decoded, decode_call(thread, call));
    step(Called{std::move(decoded)}, call);
    return {};
}

void VirtualComputer::set_workers(const std::set<std::string>& peers) {
    const std::set<std::string> before = std::exchange(workers_, peers);
    for (const std::string& peer : peers) {
        if (!before.contains(peer)) step(WorkerJoined{peer}, {});
    }
    for (const std::string& peer : before) {
        if (!peers.contains(peer)) step(WorkerLost{peer}, {});
    }
}

void VirtualComputer::step(const Event& event, ByteView call) {
    const std::int64_t at_us = now_us();
    if (const Status kept = journal_->append(at_us, event, call); !kept) {
        // What is not written down must not come true.
        return later([this, why = kept.error().message()] { callbacks_.on_failed(why); });
    }
    std::vector<Effect> effects;
    switchboard_.step(at_us, event, effects);
    for (const Effect& effect : effects) perform(effect);
    const std::optional<std::int64_t> tick_us = switchboard_.next_tick_us();
    if (!tick_us) return timer_.stop();
    const std::int64_t wait_us = std::max<std::int64_t>(*tick_us - now_us(), 0);
    timer_.start(static_cast<std::uint64_t>(wait_us) / 1000 + 1);
}

void VirtualComputer::perform(const Effect& effect) {
    if (const auto* answer = std::get_if<Answer>(&effect)) {
        callbacks_.on_answer(answer->thread, answer->number,
                             encode_answer(answer->number, answer->answer));
    } else if (const auto* start = std::get_if<Start>(&effect)) {
        later([this, start = *start] { callbacks_.on_start(start.thread, start.name); });
    } else if (const auto* stop = std::get_if<Stop>(&effect)) {
        later([this, thread = stop->thread] { callbacks_.on_stop(thread); });
    } else {
        later([this, why = std::get<Failed>(effect).why] { callbacks_.on_failed(why); });
    }
}

void VirtualComputer::later(std::function<void()> task) {
    loop_.post([alive = alive_, task = std::move(task)] {
        if (*alive) task();
    });
}

}  // namespace ppdsm
