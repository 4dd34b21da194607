#include "runtime/peer/mesh/computers.h"

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include "runtime/peer/mesh/deployment.h"

namespace ppdsm {

using namespace switchboard;

namespace {

ThreadId id_of(const VcRecord& thread) { return ThreadId{thread.thread}; }

const std::string& computer_id(const VcRecord& thread) {
    return thread.computer.empty() ? thread.id : thread.computer;
}

/// For get() at whoever spawned it: how its process ended, and where.
std::string describe(const Outcome& outcome, const std::string& peer) {
    std::string how = fmt::format("exit code {}", outcome.exit_code);
    if (outcome.exit_code > 128) {
        const char* name = sigabbrev_np(outcome.exit_code - 128);
        if (name != nullptr) how = fmt::format("killed by SIG{}", name);
    }
    if (!peer.empty()) how += " at " + peer;
    return outcome.failure.empty() ? how : how + ": " + outcome.failure;
}

}  // namespace

Computers::Computer* Computers::computer_of(const VcRecord& thread) {
    const auto found = computers_.find(computer_id(thread));
    return found == computers_.end() ? nullptr : &found->second;
}

Deployment* Computers::find(const std::string& computer, ThreadId thread) {
    const auto found = computers_.find(computer);
    if (found == computers_.end()) return nullptr;
    const auto vc = found->second.vcs.find(thread);
    return vc == found->second.vcs.end() ? nullptr : services_.find(vc->second);
}

void Computers::adopt(Deployment& deployment) {
    const VcRecord& record = deployment.record();
    if (id_of(record) != kRootThread) return;
    const std::string vc = record.id;
    Computer& computer = computers_[vc];
    computer.program = record;
    computer.vcs[kRootThread] = vc;
    Result<std::unique_ptr<VirtualComputer>> opened = VirtualComputer::open(
        services_.loop, deployment.paths().calls(),
        VirtualComputer::Callbacks{
            .on_answer =
                [this, vc](ThreadId thread, std::uint64_t number, const Bytes& answer) {
                    if (Deployment* asking = find(vc, thread)) asking->answer_call(number, answer);
                },
            .on_start = [this, vc](ThreadId thread,
                                   const std::string& name) { start(vc, thread, name); },
            .on_stop =
                [this, vc](ThreadId thread) {
                    if (Deployment* stopped = find(vc, thread))
                        stopped->kill("its program has ended");
                },
            .on_failed = [this, vc](const std::string& why) { fail(vc, why); }});
    if (!opened) {
        computers_.erase(vc);
        return deployment.kill("what its virtual threads had asked cannot be read: " +
                               opened.error().message());
    }
    computer.switchboard = *std::move(opened);
    computer.switchboard->set_workers(services_.workers());
}

/// Those that run are found again by their records; those that ended when nobody could be told, are
/// told of now; those that were to be deployed, and were not, are.
void Computers::resume(const std::vector<Known>& known) {
    for (const Known& each : known) {
        Computer* computer = computer_of(each.record);
        if (computer == nullptr || id_of(each.record) == kRootThread) continue;
        if (!each.ended) {
            watch(*computer, id_of(each.record), each.record.id);
        } else if (computer->switchboard->switchboard().threads().contains(id_of(each.record))) {
            on_ended(each.record, *each.ended);
        }
    }
    for (auto& [vc, computer] : computers_) {
        for (const auto& [thread, state] : computer.switchboard->switchboard().threads()) {
            if (thread == kRootThread || !state.is_wanted || computer.vcs.contains(thread))
                continue;
            start(vc, thread, state.name);
        }
    }
}

void Computers::on_members_changed() {
    const std::set<std::string> workers = services_.workers();
    for (auto& [vc, computer] : computers_) computer.switchboard->set_workers(workers);
}

void Computers::watch(Computer& computer, ThreadId thread, const std::string& vc) {
    computer.vcs[thread] = vc;
    auto& output = computer.outputs[thread];
    output = std::make_unique<OutputWatcher>(*this, computer.program.id, vc);
    if (Deployment* deployed = services_.find(vc)) deployed->add_observer(*output);
}

/// A spawned virtual thread is the same program, told to run another function.
void Computers::start(const std::string& vc, ThreadId thread, const std::string& name) {
    const auto found = computers_.find(vc);
    if (found == computers_.end()) return;
    Computer& computer = found->second;
    VcRecord record = computer.program;
    record.thread = static_cast<std::uint64_t>(thread);
    record.computer = vc;
    record.name = fmt::format("{}/{}", computer.program.name.empty() ? vc : computer.program.name,
                              record.thread);
    record.detached = true;
    record.terminal = false;
    const Result<std::string> deployed = services_.deploy(record);
    if (!deployed) {
        computer.switchboard->note(NotPlaced{thread, deployed.error().message()});
        return;
    }
    watch(computer, thread, *deployed);
    services_.log->info("vc={} is virtual thread {} ({}) of {}", *deployed, record.thread, name,
                        vc);
}

void Computers::fail(const std::string& vc, const std::string& why) {
    const auto found = computers_.find(vc);
    if (found == computers_.end()) return;
    const auto threads = found->second.vcs;
    for (const auto& [thread, id] : threads) {
        if (Deployment* deployment = services_.find(id)) deployment->kill(why);
    }
}

void Computers::tell(const std::string& program, const ThreadRelease& release) {
    if (Deployment* watched = services_.find(program)) watched->tell_thread_release(release);
}

void Computers::note(const VcRecord& thread, const Event& event) {
    if (Computer* computer = computer_of(thread)) computer->switchboard->note(event);
}

void Computers::on_call(const VcRecord& thread, ByteView call) {
    Computer* computer = computer_of(thread);
    if (computer == nullptr) return;
    const std::string vc = computer_id(thread);
    const Status taken = computer->switchboard->on_call(id_of(thread), call);
    if (!taken)
        fail(vc, fmt::format("virtual thread {}: {}", thread.thread, taken.error().message()));
}

void Computers::on_placed(const VcRecord& thread, const std::string& peer) {
    Computer* computer = computer_of(thread);
    if (computer == nullptr) return;
    computer->peers[id_of(thread)] = peer;
    computer->switchboard->note(Placed{id_of(thread), peer});
}

void Computers::on_covered(const VcRecord& thread, std::uint64_t calls) {
    note(thread, Covered{id_of(thread), calls});
}

void Computers::on_rolled_back(const VcRecord& thread, std::uint64_t calls) {
    note(thread, RolledBack{id_of(thread), calls});
}

void Computers::on_ended(const VcRecord& thread, const Outcome& outcome) {
    Computer* computer = computer_of(thread);
    if (computer == nullptr) return;
    const std::string peer = computer->peers[id_of(thread)];
    if (const auto output = computer->outputs.extract(id_of(thread)); !output.empty()) {
        OutputWatcher& watcher = *output.mapped();
        if (Deployment* ending = services_.find(thread.id)) ending->remove_observer(watcher);
        watcher.release.has_ended = true;
        tell(watcher.program, watcher.release);
    }
    computer->vcs.erase(id_of(thread));
    computer->switchboard->note(Gone{id_of(thread), describe(outcome, peer)});
    if (!computer->vcs.empty()) return;
    // Not from within one of its own steps.
    services_.loop.post([this, vc = computer_id(thread)] { computers_.erase(vc); });
}

}  // namespace ppdsm
