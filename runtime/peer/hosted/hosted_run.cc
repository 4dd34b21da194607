#include "runtime/peer/hosted/hosted_run.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/wire/codec.h"
#include "messages_generated.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/libexec.h"
#include "runtime/peer/mesh/gossip_codec.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::uint64_t kOutputPieceBytes = std::uint64_t{192} << 10;
constexpr std::size_t kMaxRefusalBytes = std::size_t{48} << 10;
/// Events that may be lost to a deployer that is not there are dropped beyond this.
constexpr std::size_t kMaxOutbox = 4096;

std::vector<std::unique_ptr<wire::PeerT>> pack(const std::vector<PeerId>& peers) {
    std::vector<std::unique_ptr<wire::PeerT>> packed;
    for (const PeerId& peer : peers) {
        packed.push_back(std::make_unique<wire::PeerT>());
        packed.back()->id = bytes_of(peer);
    }
    return packed;
}

Result<std::vector<PeerId>> unpack(const std::vector<std::unique_ptr<wire::PeerT>>& packed) {
    std::vector<PeerId> peers;
    for (const auto& each : packed) {
        PPDSM_ASSIGN(const PeerId peer, peer_id_from(each->id));
        peers.push_back(peer);
    }
    return peers;
}

}  // namespace

Bytes encode_order(const DeployOrder& order) {
    wire::DeployT packed;
    packed.vc = order.record.id;
    packed.epoch = order.epoch;
    packed.record = encode_record(order.record);
    if (order.generation) packed.generation = format_generation(*order.generation);
    packed.output_bytes = order.output_bytes;
    packed.released = order.released;
    packed.input_bytes = order.input_bytes;
    packed.input_signals = order.input_signals;
    packed.previews = order.previews;
    packed.replicas = pack(order.replicas);
    packed.sources = pack(order.sources);
    packed.plan = encode_plan(order.plan);
    return encode_message<wire::Deploy>(packed);
}

Result<DeployOrder> decode_order(ByteView bytes) {
    PPDSM_ASSIGN(const wire::DeployT packed, decode_message<wire::Deploy>(bytes));
    DeployOrder order;
    PPDSM_ASSIGN(order.record, decode_record(packed.record));
    if (!is_vc_id(packed.vc) || order.record.id != packed.vc || packed.epoch == 0) {
        return fail(Code::kCorrupt, "an order for no virtual computer");
    }
    order.epoch = packed.epoch;
    if (!packed.generation.empty()) {
        PPDSM_ASSIGN(order.generation, parse_generation(packed.generation));
    }
    order.output_bytes = packed.output_bytes;
    order.released = packed.released;
    order.input_bytes = packed.input_bytes;
    order.input_signals = packed.input_signals;
    order.previews = packed.previews;
    PPDSM_ASSIGN(order.replicas, unpack(packed.replicas));
    PPDSM_ASSIGN(order.sources, unpack(packed.sources));
    PPDSM_ASSIGN(order.plan, decode_plan(packed.plan));
    return order;
}

HostedRun::HostedRun(Loop& loop, Mesh& mesh, Replicas& replicas, MeshFiles& mesh_files,
                     const Home& home, PeerId deployer, DeployOrder order,
                     std::shared_ptr<spdlog::logger> log)
    : loop_(loop),
      mesh_(mesh),
      replicas_(replicas),
      mesh_files_(mesh_files),
      home_(home),
      paths_(home.hosted(order.record.id)),
      deployer_(deployer),
      order_(std::move(order)),
      log_(std::move(log)),
      sent_output_bytes_(order_.output_bytes + order_.released.size()),
      given_input_bytes_(order_.input_bytes),
      given_signals_(order_.input_signals),
      last_(order_.generation) {}

HostedRun::~HostedRun() {
    *alive_ = false;
    files_.reset();
    mesh_files_.end_hosting(order_.record.id);
}

// Starting.

void HostedRun::start(const std::function<void(const Status&)>& done,
                      std::function<void()> on_gone) {
    on_gone_ = std::move(on_gone);
    const auto release_and_launch = [this, alive = alive_, done](const Status& here) {
        if (!*alive) return;
        if (!here) return done(here);
        replicas_.release(order_.record.id, [this, alive, done](const Status& released) {
            if (!*alive) return;
            if (!released) return done(released);
            launch(done);
        });
    };
    const auto bring_catalog = [this, alive = alive_, done,
                                release_and_launch](const Status& here) {
        if (!*alive) return;
        if (!here) return done(here);
        const std::uint64_t catalog_bytes =
            order_.generation ? order_.generation->catalog_bytes : 0;
        mesh_files_.begin_hosting(order_.record.id, catalog_bytes, order_.sources,
                                  release_and_launch);
    };
    if (!order_.generation) return bring_catalog({});
    replicas_.bring(order_.record.id, *order_.generation, order_.sources, bring_catalog);
}

void HostedRun::launch(const std::function<void(const Status&)>& done) {
    fault_point("host");
    auto prepared = std::make_shared<Status>();
    loop_.offload([this, alive = alive_, prepared] { *prepared = prepare_directory(); },
                  [this, alive = alive_, prepared, done] {
                      if (!*alive) return;
                      Status status = *prepared;
                      if (status) status = open_files();
                      if (status) status = spawn();
                      if (!status) return done(status);
                      started_ = done;
                  });
}

/// What an executor finds that takes over here.
Status HostedRun::prepare_directory() {
    PPDSM_TRY(make_directories(paths_.directory, 0700));
    PPDSM_TRY(make_directories(paths_.manifests(), 0700));
    PPDSM_TRY(write_record(paths_, order_.record));
    PPDSM_TRY(replace_file(paths_.plan(), as_bytes(encode_plan(order_.plan)), 0600));
    ::unlink(paths_.refusals().c_str());
    ::unlink(paths_.input().c_str());
    ::unlink(paths_.commits().c_str());
    if (order_.epoch > 1 || order_.generation) {
        std::vector<GenerationRecord> generations;
        if (order_.generation) generations.push_back(*order_.generation);
        PPDSM_TRY(CommitLog::install(paths_.commits(), order_.epoch, generations));
    }
    PPDSM_ASSIGN(InputJournal input, InputJournal::open(paths_.input()));
    PPDSM_TRY(input.append_base(order_.input_bytes, order_.input_signals));
    PPDSM_ASSIGN(OutputLog output, OutputLog::open(paths_.output(), true));
    PPDSM_TRY(output.truncate(0));
    PPDSM_TRY(output.truncate(order_.output_bytes));  // A hole: what came before is elsewhere.
    PPDSM_TRY(output.append_frames(order_.released));
    output_.emplace(std::move(output));
    return {};
}

/// Peers that may have contents besides the deployer.
std::vector<PeerId> HostedRun::file_holders() const {
    std::vector<PeerId> holders = order_.replicas;
    holders.insert(holders.end(), order_.sources.begin(), order_.sources.end());
    std::erase(holders, mesh_.self().id);
    return holders;
}

Status HostedRun::open_files() {
    HostedFiles::Setup setup{order_.record.id, order_.plan,           deployer_,
                             paths_.catalog(), order_.record.program, file_holders()};
    PPDSM_ASSIGN(files_, HostedFiles::open(loop_, mesh_, mesh_files_, std::move(setup), log_));
    return {};
}

Status HostedRun::spawn() {
    PPDSM_ASSIGN(const std::filesystem::path libexec, find_libexec());
    PPDSM_ASSIGN(auto ends, make_packet_pair());
    PPDSM_ASSIGN(const OwnedFd log,
                 open_file(paths_.directory / "executor.log", O_WRONLY | O_CREAT | O_APPEND, 0600));
    std::vector<std::string> arguments = {"--home",     home_.directory(),
                                          "--vc",       paths_.directory,
                                          "--released", std::to_string(sent_output_bytes_)};
    if (order_.previews) arguments.emplace_back("--previews");
    Result<ChildProcess> child =
        ChildProcess::start(libexec / "ppdsm-executor", arguments, ends.second, log);
    if (!child) return fail(child.error());
    executor_.emplace(*std::move(child));
    executor_poller_ = std::make_unique<Poller>(loop_, executor_->pidfd().get(),
                                                [this](int) { on_executor_ended(); });
    executor_poller_->watch(UV_READABLE);
    socket_ = std::make_unique<LocalSocket>(loop_, std::move(ends.first));
    socket_->listen(
        {[this](const Json& head, LocalMessage message) { on_executor(head, std::move(message)); },
         [] {}});
    return {};
}

// What the executor says.

void HostedRun::on_executor(const Json& head, LocalMessage message) {
    const std::string event = head.value("event", "");
    if (event == "hello" || event == "failed") {
        const auto started = std::exchange(started_, nullptr);
        if (!started) return;
        return event == "hello" ? started({}) : started(fail(error_from_json(head["error"])));
    }
    if (event == "files" && !message.fds.empty()) {
        return files_->attach(std::move(message.fds.front()));
    }
    if (event == "propose") return on_proposal(head);
    if (event == "propose-end") return on_end_proposal(head);
    if (event == "propose-unprotected") {
        return submit({head.value("token", std::uint64_t{0}), head.dump(), 0, false, true});
    }
    if (event == "released") {
        released_bytes_ = std::max(released_bytes_, head.value("bytes", std::uint64_t{0}));
        return pump();
    }
    if (event == "call") return on_call_part(head, std::move(message.data));
    // A generation is told by the deployer, who has committed it.
    if (event == "committed") return;
    if (event == "finished" && ended_) {
        return socket_->send({{"do", "leave"}});
    }
    tell(head, std::move(message.data));
}

/// Kept until it is answered: the deployer may be away, or not have heard it.
void HostedRun::on_call_part(const Json& head, Bytes data) {
    if (head.value("offset", std::uint64_t{0}) == 0) call_.clear();
    call_.push_back({head.dump(), std::move(data), 0});
    if (!connected_) return;
    outbox_.push_back(call_.back());
    pump();
}

void HostedRun::on_proposal(const Json& head) {
    const Result<GenerationRecord> record = parse_generation(head.value("record", ""));
    if (!record) return stop("its executor is not of this release");
    const std::uint64_t token = head.value("token", std::uint64_t{0});
    files_->secure(order_.replicas,
                   [this, alive = alive_, token, head = Json(head),
                    record = *record](const Result<HostedFiles::Secured>& secured) mutable {
                       if (!*alive) return;
                       if (!secured) return reject(token, secured.error());
                       if (!secured->failures.text.empty()) {
                           log_->warn("vc={} what it was shown is not kept by {}", order_.record.id,
                                      secured->failures.text);
                       }
                       put_failures(head, secured->failures);
                       record.catalog_bytes = secured->catalog_bytes;
                       head["record"] = format_generation(record);
                       replicate(record, secured->peers, {token, {}, record.output_bytes}, head);
                   });
}

/// The executor goes on, and tries again with its next generation.
void HostedRun::reject(std::uint64_t token, const Error& why) {
    log_->warn("vc={} a generation is given up: {}", order_.record.id, why.message());
    if (socket_) {
        socket_->send({{"do", "accept"}, {"token", token}, {"error", error_to_json(why)}});
    }
}

/// The deployer must have the layers, to write them home.
void HostedRun::on_end_proposal(Json head) {
    Proposal proposal{
        head.value("token", std::uint64_t{0}), {}, head.value("output", std::uint64_t{0}), true};
    const Result<std::string> refusals = read_text(paths_.refusals());
    if (refusals && refusals->size() <= kMaxRefusalBytes) {
        head["refusals"] = bytes_to_utf8(*refusals);
    }
    if (!head.contains("files") || deployer_ == mesh_.self().id) {
        proposal.head = head.dump();
        proposal.ready = true;
        return submit(std::move(proposal));
    }
    const Result<GenerationRecord> record = parse_generation(head.value("files", ""));
    if (!record) return stop("its executor is not of this release");
    replicate(*record, {deployer_}, std::move(proposal), std::move(head));
}

void HostedRun::replicate(const GenerationRecord& record, const std::vector<PeerId>& peers,
                          Proposal proposal, Json head) {
    fault_point("replicate");
    proposal.head = head.dump();
    const std::uint64_t token = proposal.token;
    proposals_.push_back(std::move(proposal));
    replicas_.replicate(
        order_.record.id, record, peers,
        [this, alive = alive_, token, head, record,
         peers](const Replicas::Outcome& outcome) mutable {
            if (!*alive) return;
            const auto found =
                std::find_if(proposals_.begin(), proposals_.end(),
                             [&](const Proposal& each) { return each.token == token; });
            if (found == proposals_.end()) return;
            fault_point("replicated");
            if (found->is_end && outcome.durable.empty()) {
                // The deployer is away, or cannot take it: when it is back it is tried again.
                log_->warn("vc={} its end waits: {}", order_.record.id, outcome.failures.text);
                return;
            }
            last_ = record;
            head["replicas"] = peers_to_json(outcome.durable);
            CopyFailures failures = failures_from_json(head);
            failures.add(outcome.failures);
            put_failures(head, failures);
            Proposal ready = std::move(*found);
            proposals_.erase(found);
            ready.head = head.dump();
            ready.ready = true;
            submit(std::move(ready));
        });
}

void HostedRun::submit(Proposal proposal) {
    if (connected_) outbox_.push_back({proposal.head, {}, proposal.output_bytes});
    proposals_.push_back(std::move(proposal));
    pump();
}

void HostedRun::tell(const Json& head, Bytes data) {
    if (!connected_ || outbox_.size() >= kMaxOutbox) return;
    outbox_.push_back({head.dump(), std::move(data), 0});
    pump();
}

// To the deployer.

/// Messages in their order, each behind the output that it covers.
void HostedRun::pump() {
    while (connected_ && !reading_) {
        const bool has_message = !outbox_.empty();
        const std::uint64_t needed_bytes =
            has_message ? outbox_.front().output_bytes : released_bytes_;
        if (sent_output_bytes_ < needed_bytes) return ship_output();
        if (!has_message) return;
        Outgoing next = std::move(outbox_.front());
        outbox_.pop_front();
        send_event(mesh_, deployer_, incarnation(), std::move(next.head), std::move(next.data));
    }
}

/// One piece, then on.
void HostedRun::ship_output() {
    // The link says when it has room again.
    if (mesh_.waiting_bulk_bytes(deployer_) > kBulkWindowBytes) return;
    reading_ = true;
    const std::uint64_t from = sent_output_bytes_;
    std::uint64_t until = released_bytes_;
    for (const Outgoing& each : outbox_) until = std::max(until, each.output_bytes);
    const std::uint64_t size = std::min(until - from, kOutputPieceBytes);
    auto piece = std::make_shared<Result<Bytes>>(Bytes());
    loop_.offload(
        [this, alive = alive_, piece, from, size] { *piece = output_->read_frames(from, size); },
        [this, alive = alive_, piece, from] {
            if (!*alive) return;
            reading_ = false;
            if (!*piece) return stop("its output log: " + piece->error().message());
            // The link may have gone and come meanwhile.
            if (connected_ && from == sent_output_bytes_) {
                wire::OutputT message;
                message.vc = order_.record.id;
                message.epoch = order_.epoch;
                message.offset_bytes = from;
                message.data = **piece;
                sent_output_bytes_ += message.data.size();
                (void)mesh_.send(deployer_, Priority::kBulk, MessageType::kOutput, 0,
                                 encode_message<wire::Output>(message));
            }
            pump();
        });
}

void HostedRun::on_deployer_linked() {
    connected_ = false;
    outbox_.clear();
    const Json head = {{"event", "hosting"},
                       {"input_bytes", given_input_bytes_},
                       {"input_signals", given_signals_}};
    send_event(mesh_, deployer_, incarnation(), head.dump(), {});
}

// From the deployer.

void HostedRun::on_command(const Json& head, Bytes data) {
    const std::string action = head.value("do", "");
    if (action == "fence") return stop(utf8_to_bytes(head.value("why", "fenced")));
    if (action == "continue") return go_on_telling(head);
    if (action == "replicas") return replace_replicas(head);
    if (action == "input" || action == "signal") return take_input(head, std::move(data));
    if (action == "accept") on_accepted(head);
    if (action == "answer") {
        const std::uint64_t end = head.value("offset", std::uint64_t{0}) + data.size();
        if (end >= head.value("total", std::uint64_t{0})) call_.clear();
    }
    if (socket_) socket_->send(head, std::move(data));
}

/// The link is back: what the deployer lacks, and what it has not answered, is told again.
void HostedRun::go_on_telling(const Json& head) {
    connected_ = true;
    sent_output_bytes_ = head.value("output", sent_output_bytes_);
    std::deque<Proposal> ends;  // That could not reach the deployer.
    for (const Proposal& proposal : proposals_) {
        if (proposal.ready) outbox_.push_back({proposal.head, {}, proposal.output_bytes});
        if (proposal.is_end && !proposal.ready) ends.push_back(proposal);
    }
    std::erase_if(proposals_, [](const Proposal& each) { return each.is_end && !each.ready; });
    for (const Proposal& end : ends) on_end_proposal(Json::parse(end.head));
    outbox_.insert(outbox_.end(), call_.begin(), call_.end());
    pump();
}

void HostedRun::on_accepted(const Json& head) {
    const auto found = std::find_if(
        proposals_.begin(), proposals_.end(),
        [&](const Proposal& each) { return each.token == head.value("token", std::uint64_t{0}); });
    if (found == proposals_.end()) return;
    if (found->is_end && !head.contains("error")) ended_ = true;
    proposals_.erase(found);
}

/// What the deployer has sent already is not given twice.
void HostedRun::take_input(const Json& head, Bytes data) {
    if (!socket_) return;
    if (head.value("do", "") == "signal") {
        if (head.value("index", std::uint64_t{0}) != given_signals_) return;
        ++given_signals_;
        return socket_->send(head);
    }
    const std::uint64_t offset = head.value("offset", std::uint64_t{0});
    if (offset > given_input_bytes_ || offset + data.size() <= given_input_bytes_) return;
    data.erase(data.begin(),
               data.begin() + static_cast<std::ptrdiff_t>(given_input_bytes_ - offset));
    given_input_bytes_ += data.size();
    socket_->send({{"do", "input"}}, std::move(data));
}

/// A replica that came in for a lost one gets the last generation at once.
void HostedRun::replace_replicas(const Json& head) {
    const std::vector<PeerId> known =
        std::exchange(order_.replicas, peers_from_json(head.value("peers", Json::array())));
    std::vector<PeerId> fresh;
    const std::vector<PeerId> lacking = peers_from_json(head.value("lacking", Json::array()));
    for (const PeerId& peer : order_.replicas) {
        const bool is_wanted = !contains(known, peer) || contains(lacking, peer);
        if (is_wanted && !copying_.contains(peer)) fresh.push_back(peer);
    }
    if (files_) files_->set_holders(file_holders());
    if (fresh.empty() || !last_ || !files_) return;
    copying_.insert(fresh.begin(), fresh.end());
    const auto tell_replicated = [this, fresh, generation = last_->generation](
                                     const std::vector<PeerId>& replicas,
                                     const CopyFailures& failures) {
        for (const PeerId& peer : fresh) copying_.erase(peer);
        Json event = {{"event", "replicated"},
                      {"generation", generation},
                      {"replicas", peers_to_json(replicas)}};
        put_failures(event, failures);
        tell(event);
    };
    files_->secure(fresh, [this, alive = alive_, last = *last_,
                           tell_replicated](const Result<HostedFiles::Secured>& secured) {
        if (!*alive) return;
        if (!secured) return tell_replicated({}, {secured.error().message(), {}});
        replicas_.replicate(order_.record.id, last, secured->peers,
                            [alive, tell_replicated, failures = secured->failures](
                                const Replicas::Outcome& outcome) mutable {
                                if (!*alive) return;
                                failures.add(outcome.failures);
                                tell_replicated(outcome.durable, failures);
                            });
    });
}

// The end.

/// Whoever is told destroys us.
void HostedRun::tell_gone() {
    loop_.post([alive = alive_, gone = std::move(on_gone_)] {
        if (*alive && gone) gone();
    });
}

void HostedRun::stop(const std::string& why) {
    log_->info("vc={} epoch={} ends here: {}", order_.record.id, order_.epoch, why);
    ended_ = true;
    if (executor_) {
        executor_->kill();  // Its end is told by on_executor_ended.
    } else {
        tell_gone();
    }
}

void HostedRun::on_executor_ended() {
    executor_poller_.reset();
    const int status = executor_->wait();
    executor_.reset();
    socket_.reset();
    if (started_) {
        std::exchange(started_, nullptr)(
            fail(Code::kUnavailable, "its executor died before it began; see " +
                                         (paths_.directory / "executor.log").string()));
    } else if (!ended_) {
        const std::string cause =
            WIFSIGNALED(status) ? "the executor was killed" : "the executor ended by itself";
        log_->warn("vc={} {}", order_.record.id, cause);
        tell({{"event", "lost"}, {"cause", cause}});
        pump();
    }
    tell_gone();
}

}  // namespace ppdsm
