// The daemon's programs: those that it deploys for its user, and those that it runs for others.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/wire/codec.h"
#include "messages_generated.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/mesh/daemon.h"
#include "runtime/peer/mesh/deployment.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

using Json = nlohmann::json;

// Deploying.

Deployment::Services Daemon::services() {
    return {loop_,      *mesh_,      *warrants_,
            *replicas_, *files_,     home_,
            log_,       *computers_, [this] { return survey(); }};
}

void Daemon::make_computers() {
    computers_ = std::make_unique<Computers>(Computers::Services{
        loop_, log_, [this](const VcRecord& record) { return deploy_thread(record); },
        [this](const std::string& vc) {
            const auto found = deployments_.find(vc);
            return found == deployments_.end() ? nullptr : found->second.get();
        },
        [this] { return workers(); }});
}

std::set<std::string> Daemon::workers() const {
    std::set<std::string> names = {mesh_->self().name};
    for (const Member* member : mesh_->members()) {
        if (mesh_->is_alive(member->id)) names.insert(member->name);
    }
    return names;
}

/// Those of earlier lives of this daemon that have not ended.
void Daemon::resume_deployments() {
    std::vector<Computers::Known> threads;
    for (const VcPaths& paths : home_.list()) {
        std::error_code absent;
        if (!std::filesystem::exists(paths.placement(), absent)) continue;
        const Result<CommitState> commits = CommitLog::read(paths.commits());
        if (!commits) continue;
        const bool has_ended = commits->end && commits->applied;
        if (const Result<VcRecord> record = read_record(paths); record && record->thread > 1) {
            threads.push_back({*record, {}});
            if (has_ended) {
                threads.back().ended =
                    Outcome{shell_exit_code(commits->end->wait_status), commits->end->failure};
            }
        }
        if (has_ended) continue;
        Result<std::unique_ptr<Deployment>> deployment = Deployment::open(services(), paths);
        if (!deployment) {
            log_->error("vc={} cannot go on: {}", paths.id(), deployment.error().message());
            continue;
        }
        log_->info("vc={} goes on", paths.id());
        adopt_deployment(*std::move(deployment));
    }
    computers_->resume(threads);
}

Deployment& Daemon::adopt_deployment(std::unique_ptr<Deployment> deployment) {
    const std::string vc = deployment->paths().id();
    Deployment& kept = *(deployments_[vc] = std::move(deployment));
    kept.begin([this, vc] { forget_deployment(vc); });
    computers_->adopt(kept);
    return kept;
}

Result<std::string> Daemon::deploy_thread(const VcRecord& record) {
    PPDSM_ASSIGN(const VcPaths paths, create_deployment(record));
    deployments_.at(paths.id())->end_input();
    return paths.id();
}

/// Its generations elsewhere have served their purpose.
void Daemon::forget_deployment(const std::string& vc) {
    wire::GenerationNameT name;
    name.vc = vc;
    for (const Member* member : mesh_->members()) {
        (void)mesh_->send(member->id, Priority::kBulk, MessageType::kForget, 0,
                          encode_message<wire::GenerationName>(name));
    }
    std::erase_if(sessions_, [&](const auto& session) { return session.second.vc == vc; });
    deployments_.erase(vc);
}

Result<VcPaths> Daemon::create_deployment(VcRecord record) {
    if (!record.on.empty()) PPDSM_TRY(mesh_->resolve(record.on));
    PPDSM_ASSIGN(VcPaths paths, home_.create_vc());
    record.id = paths.id();
    PPDSM_TRY(write_record(paths, record));
    // Generations lie where this peer keeps those of all computations.
    const VcPaths hosted = home_.hosted(record.id);
    PPDSM_TRY(remove_tree(paths.manifests()));
    std::error_code error;
    std::filesystem::create_symlink(hosted.manifests(), paths.manifests(), error);
    if (!error) std::filesystem::create_symlink(hosted.chunks(), paths.chunks(), error);
    if (error) return fail(Error::from_errno("prepare " + paths.directory.string(), error.value()));
    // From here on it is ours: a daemon that is killed before it has placed it goes on with it.
    PPDSM_TRY(replace_file(paths.placement(), as_bytes("{}\n"), 0600));
    fault_point("deployment-made");
    PPDSM_ASSIGN(std::unique_ptr<Deployment> deployment, Deployment::open(services(), paths));
    adopt_deployment(std::move(deployment));
    return paths;
}

/// The client's connection becomes a view of the run.
Result<Json> Daemon::attach(std::uint64_t client, const Json& request) {
    VcPaths paths;
    if (request.value("do", "") == "exec") {
        PPDSM_ASSIGN(VcRecord record, decode_record(request.value("record", "")));
        record.thread = uses_header(record.program) ? 1 : 0;
        record.computer.clear();
        PPDSM_ASSIGN(paths, create_deployment(std::move(record)));
    } else {
        PPDSM_ASSIGN(paths, home_.find(request.value("vc", "")));
    }
    const auto found = deployments_.find(paths.id());
    if (found == deployments_.end()) {
        return fail(Code::kNotFound, paths.id() + " does not run; `ppdsm logs` shows its output");
    }
    Deployment& deployment = *found->second;
    if (request.value("detach", false)) {
        deployment.end_input();
        return Json{{"vc", paths.id()}};
    }
    auto node = clients_.extract(client);
    node.mapped().socket->send({{"vc", paths.id()}});
    Session& session = sessions_[client];
    session.vc = paths.id();
    session.server = std::make_unique<RunServer>(
        loop_, deployment, std::move(node.mapped().socket), true,
        RunServer::Callbacks{{}, [this, client] { sessions_.erase(client); }});
    deployment.brief(*session.server);
    return Json{};
}

// Hosting.

void Daemon::listen_for_programs() {
    mesh_->handle(MessageType::kDeploy, [this](const PeerId& from, const Frame& frame) {
        return on_deploy(from, frame);
    });
    mesh_->handle(MessageType::kCommand, [this](const PeerId& from, const Frame& frame) {
        return on_command(from, frame);
    });
    mesh_->handle(MessageType::kEvent,
                  [this](const PeerId& from, const Frame& frame) { return on_event(from, frame); });
    mesh_->handle(MessageType::kOutput, [this](const PeerId& from, const Frame& frame) -> Status {
        PPDSM_ASSIGN(const wire::OutputT output, decode_message<wire::Output>(frame.payload));
        const auto found = deployments_.find(output.vc);
        if (found != deployments_.end()) {
            found->second->on_output(from, output.epoch, output.offset_bytes, output.data);
        }
        return {};
    });
    mesh_->handle(MessageType::kForget, [this](const PeerId& from, const Frame& frame) -> Status {
        PPDSM_ASSIGN(const wire::GenerationNameT name,
                     decode_message<wire::GenerationName>(frame.payload));
        if (!is_vc_id(name.vc) || deployments_.contains(name.vc)) return {};
        if (!warrants_->is_deployer(name.vc, from)) return {};
        forgotten_.insert(name.vc);
        const auto hosted = hosted_.find(name.vc);
        if (hosted == hosted_.end()) {
            forget_hosted(name.vc);
        } else if (hosted->second->deployer() == from) {
            hosted->second->stop("the computation has ended");
        }
        return {};
    });
    mesh_->watch_links([this](const PeerId& peer, bool is_open) {
        is_open ? files_->on_linked(peer) : replicas_->on_link_closed(peer);
        if (!is_open) warrants_->on_link_closed(peer);
        for (auto& [vc, run] : hosted_) {
            if (run->deployer() != peer) continue;
            is_open ? run->on_deployer_linked() : run->on_deployer_unlinked();
        }
    });
    mesh_->watch_drained([this](const PeerId& peer) {
        for (auto& [vc, run] : hosted_) {
            if (run->deployer() == peer) run->on_link_drained();
        }
    });
    mesh_->watch_members([this](const Member&, std::optional<MemberState>, const std::string&) {
        // Not from within the membership's step.
        if (std::exchange(members_changed_, true)) return;
        loop_.post([this] {
            members_changed_ = false;
            for (auto& [vc, deployment] : deployments_) deployment->on_members_changed();
            computers_->on_members_changed();
        });
    });
}

void Daemon::forget_hosted(const std::string& vc) {
    files_->forget(vc);
    replicas_->forget(vc);
    warrants_->forget(vc);
}

void Daemon::answer_order(const PeerId& to, std::uint64_t correlation, const Status& status) {
    wire::AnswerT answer;
    if (!status) {
        answer.error_code = static_cast<std::int32_t>(status.error().code());
        answer.error = status.error().message();
    }
    (void)mesh_->send(to, Priority::kBulk, MessageType::kAnswer, correlation,
                      encode_message<wire::Answer>(answer));
}

/// What this machine's owner lets others' programs do.
Status Daemon::check_order(const PeerId& from, const DeployOrder& order) const {
    if (from == mesh_->self().id) return {};
    if (capacity_.drained) return fail(Code::kUnavailable, "drained by its owner");
    const VcRecord& record = order.record;
    if (::geteuid() != 0 && record.uid != ::geteuid()) {
        return fail(Code::kUnsupported, "it cannot run programs of another user");
    }
    if (record.host_network) return fail(Code::kUnsupported, "--net host is for one's own machine");
    return {};
}

Status Daemon::on_deploy(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(DeployOrder order, decode_order(frame.payload));
    const std::string vc = order.record.id;
    const std::uint64_t correlation = frame.correlation;
    Status allowed = check_order(from, order);
    if (allowed) allowed = warrants_->may_order(vc, from);
    if (!allowed) {
        answer_order(from, correlation, allowed);
        return {};
    }
    const auto known = hosted_.find(vc);
    if (known == hosted_.end()) {
        host(from, correlation, std::move(order));
        return {};
    }
    if (known->second->epoch() >= order.epoch) {
        answer_order(from, correlation, fail(Code::kStaleEpoch, "a later incarnation runs here"));
        return {};
    }
    // The earlier incarnation's processes go first.
    next_orders_[vc] = {from, correlation, std::move(order)};
    known->second->stop("another incarnation takes over");
    return {};
}

void Daemon::host(const PeerId& from, std::uint64_t correlation, DeployOrder order) {
    const std::string vc = order.record.id;
    auto& run = hosted_[vc];
    run = std::make_unique<HostedRun>(loop_, *mesh_, *replicas_, *files_, home_, from,
                                      std::move(order), log_);
    ++capacity_.hosted;
    log_->info("vc={} epoch={} begins here for {}", vc, run->epoch(), mesh_->describe(from));
    run->start(
        [this, from, correlation, vc](const Status& started) {
            answer_order(from, correlation, started);
            if (started) return;
            log_->warn("vc={} did not begin: {}", vc, started.error().message());
            loop_.post([this, vc] { end_hosting(vc); });
        },
        [this, vc] { end_hosting(vc); });
    advertise();
}

void Daemon::end_hosting(const std::string& vc) {
    if (hosted_.erase(vc) == 0) return;
    --capacity_.hosted;
    if (forgotten_.contains(vc)) forget_hosted(vc);
    forgotten_.erase(vc);
    auto next = next_orders_.extract(vc);
    if (!next.empty()) {
        NextOrder& waiting = next.mapped();
        host(waiting.from, waiting.correlation, std::move(waiting.order));
    } else if (stopping_ && hosted_.empty()) {
        loop_.stop();
    }
    advertise();
}

Status Daemon::on_command(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(wire::CommandT command, decode_message<wire::Command>(frame.payload));
    const auto found = hosted_.find(command.vc);
    if (found == hosted_.end() || found->second->deployer() != from ||
        found->second->epoch() != command.epoch) {
        return {};
    }
    return with_head(command.head, [&](const Json& head) {
        found->second->on_command(head, std::move(command.data));
    });
}

Status Daemon::on_event(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(wire::EventT event, decode_message<wire::Event>(frame.payload));
    return with_head(event.head, [&](const Json& head) {
        const auto found = deployments_.find(event.vc);
        if (found != deployments_.end()) {
            found->second->on_event(from, event.epoch, head, std::move(event.data));
        } else if (head.value("event", "") == "hosting") {
            // Nothing here wants it any more.
            fence(*mesh_, from, {event.vc, event.epoch}, "its deployer has ended it");
        }
    });
}

}  // namespace ppdsm
