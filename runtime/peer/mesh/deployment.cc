#include "runtime/peer/mesh/deployment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/wire/codec.h"
#include "messages_generated.h"
#include "runtime/peer/fault_point.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::uint64_t kInputPieceBytes = std::uint64_t{64} << 10;
constexpr std::uint64_t kMaxUnsentInputBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kRetryMs = 1'000;
constexpr std::uint64_t kGraceMs = 5'000;

}  // namespace

Result<std::unique_ptr<Deployment>> Deployment::open(Services services, const VcPaths& paths) {
    PPDSM_ASSIGN(VcRecord record, read_record(paths));
    PPDSM_ASSIGN(OwnedFd lock, lock_vc(paths));
    PPDSM_ASSIGN(CommitLog commits, CommitLog::open(paths.commits()));
    PPDSM_ASSIGN(OutputLog output, OutputLog::open(paths.output(), true));
    PPDSM_ASSIGN(InputJournal input, InputJournal::open(paths.input()));
    std::unique_ptr<Deployment> deployment(
        new Deployment(std::move(services), paths, std::move(record), std::move(lock),
                       std::move(commits), std::move(output), std::move(input)));
    PPDSM_TRY(deployment->home_files_.load());
    PPDSM_TRY(deployment->load_placement());
    PPDSM_ASSIGN(deployment->control_,
                 ControlServer::listen(deployment->services_.loop, *deployment, paths));
    return deployment;
}

Deployment::Deployment(Services services, VcPaths paths, VcRecord record, OwnedFd lock,
                       CommitLog commits, OutputLog output, InputJournal input)
    : services_(std::move(services)),
      paths_(std::move(paths)),
      record_(std::move(record)),
      lock_(std::move(lock)),
      commits_(std::move(commits)),
      output_(std::move(output)),
      input_(std::move(input)),
      home_files_(paths_, record_),
      retry_timer_(services_.loop, [this] { place(); }),
      grace_timer_(services_.loop, [this] { on_members_changed(); }) {
    const CommitState& state = commits_.state();
    if (state.last() != nullptr) released_bytes_ = state.last()->output_bytes;
    if (state.end) released_bytes_ = state.end->output_bytes;
    if (state.unprotected) released_bytes_ = output_.size_bytes();
}

Deployment::~Deployment() { *alive_ = false; }

// What must be known after a restart: who runs it, and who has the last generation.

Status Deployment::load_placement() {
    const Result<std::string> text = read_text(paths_.placement());
    if (!text && text.error().code() == Code::kNotFound) return {};
    if (!text) return fail(text.error());
    const Json json = Json::parse(*text, nullptr, false);
    if (!json.is_object()) return fail(Code::kCorrupt, paths_.placement().string());
    if (const Result<PeerId> worker = PeerId::parse(json.value("worker", "")); worker) {
        worker_ = *worker;
    }
    holders_ = peers_from_json(json.value("holders", Json::array()));
    if (const std::string host = json.value("made_on", ""); !host.empty()) {
        const Json made_on = Json::parse(host, nullptr, false);
        HostRecord record;
        record.machine = made_on.value("machine", "");
        record.criu_version = made_on.value("criu", "");
        record.kernel_release = made_on.value("kernel", "");
        record.cpu_features = made_on.value("features", std::vector<std::string>{});
        made_on_ = record;
    }
    return {};
}

std::string Deployment::encode_placement() const {
    Json json = {{"worker", worker_ ? worker_->to_string() : ""},
                 {"holders", peers_to_json(holders_)}};
    if (made_on_) {
        json["made_on"] = Json{{"machine", made_on_->machine},
                               {"criu", made_on_->criu_version},
                               {"kernel", made_on_->kernel_release},
                               {"features", made_on_->cpu_features}}
                              .dump();
    }
    return json.dump(1) + "\n";
}

void Deployment::note_placement() {
    job([path = paths_.placement(),
         text = encode_placement()] { return replace_file(path, as_bytes(text), 0600); },
        [this](const Status& noted) {
            if (!noted) services_.log->error("vc={} {}", paths_.id(), noted.error().message());
        });
}

/// Work that blocks, one piece at a time; the next waits.
void Deployment::job(std::function<Status()> work, std::function<void(const Status&)> done) {
    if (busy_) {
        after_job_.push_back(
            [this, work = std::move(work), done = std::move(done)] { job(work, done); });
        return;
    }
    busy_ = true;
    auto result = std::make_shared<Status>();
    services_.loop.offload([alive = alive_, result, work = std::move(work)] { *result = work(); },
                           [this, alive = alive_, result, done = std::move(done)] {
                               if (!*alive) return;
                               busy_ = false;
                               done(*result);
                               if (busy_ || after_job_.empty() || !*alive) return;
                               const auto next = std::move(after_job_.front());
                               after_job_.erase(after_job_.begin());
                               next();
                           });
}

void Deployment::say(const std::string& text) {
    services_.log->info("vc={} {}", paths_.id(), text);
    notify([&](RunObserver& observer) { observer.on_notice(text); });
}

// Placing.

void Deployment::begin(std::function<void()> on_ended) {
    on_ended_ = std::move(on_ended);
    const CommitState& state = commits_.state();
    if (state.end) {
        phase_ = Phase::kEnding;
        return finish();
    }
    if (!worker_) return place();
    phase_ = Phase::kRunning;
    if (*worker_ == services_.mesh.self().id) {
        return lose_worker("the daemon that ran it was stopped");
    }
    // Its worker says so itself when there is a link. First the mesh must find together again.
    grace_timer_.start(kGraceMs);
}

void Deployment::place() {
    retry_timer_.stop();
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) return;
    if (kill_reason_) {
        return conclude({.exit_code = 128 + SIGKILL, .failure = *kill_reason_});
    }
    phase_ = Phase::kWaiting;
    const CommitState& state = commits_.state();
    if (state.unprotected && state.epoch > 0) {
        return conclude({.exit_code = kFailedExitCode,
                         .failure = "it ran without checkpoints and has shown output, so that "
                                    "there is nothing to go on from; start the program again"});
    }
    PlacementRequest request;
    request.record = &record_;
    const bool restores = state.last() != nullptr;
    if (restores && made_on_) request.made_on = &*made_on_;
    if (restores) request.holders = holders_;
    request.excluded = refused_;
    const Result<PeerId> worker = services_.place(request);
    if (worker) return deploy(*worker);
    if (!refused_.empty()) {
        // Those that refused are asked again after the others.
        refused_.clear();
    }
    if (waiting_why_ != worker.error().message()) {
        waiting_why_ = worker.error().message();
        say("waits for a peer: " + waiting_why_);
    }
    retry_timer_.start(kRetryMs);
}

Result<DeployOrder> Deployment::make_order() {
    PPDSM_TRY(commits_.begin_epoch());
    const GenerationRecord* last = commits_.state().last();
    DeployOrder order;
    order.record = record_;
    order.epoch = commits_.state().epoch;
    if (last != nullptr) {
        order.generation = *last;
        order.output_bytes = last->output_bytes;
        order.input_bytes = last->input_bytes;
        order.input_signals = last->input_signals;
        order.sources = holders_;
    }
    // What no generation covers and nobody has seen is the next incarnation's to write.
    PPDSM_TRY(output_.truncate(released_bytes_));
    if (released_bytes_ > order.output_bytes) {
        PPDSM_ASSIGN(order.released,
                     output_.read_frames(order.output_bytes, released_bytes_ - order.output_bytes));
    }
    order.previews = record_.output == OutputMode::kLive;
    return order;
}

void Deployment::deploy(const PeerId& worker) {
    phase_ = Phase::kDeploying;
    worker_ = worker;
    replicas_ = services_.choose_replicas(worker, record_);
    Result<DeployOrder> order = make_order();
    const Status noted = order
                             ? replace_file(paths_.placement(), as_bytes(encode_placement()), 0600)
                             : Status(fail(order.error()));
    if (!noted) {
        return conclude({.exit_code = kFailedExitCode, .failure = noted.error().message()});
    }
    fault_point("deploy");
    order->replicas = replicas_;
    sent_input_bytes_ = taken_input_bytes_ = order->input_bytes;
    sent_signals_ = order->input_signals;
    sent_input_end_ = false;
    services_.log->info("vc={} epoch={} goes to {}", paths_.id(), order->epoch,
                        services_.mesh.describe(worker));
    services_.mesh.request(
        worker, Priority::kBulk, MessageType::kDeploy, encode_order(*order),
        [this, alive = alive_, epoch = order->epoch, worker](Result<Frame> frame) {
            if (!*alive) return;
            Status answer;
            if (!frame) {
                answer = fail(frame.error());
            } else {
                auto said = decode_message<wire::Answer>(frame->payload);
                if (!said) {
                    answer = fail(said.error());
                } else if (said->error_code >= 0) {
                    answer = fail(static_cast<Code>(said->error_code), said->error);
                }
            }
            on_deployed(epoch, worker, answer);
        });
}

void Deployment::on_deployed(std::uint64_t epoch, const PeerId& worker, const Status& answer) {
    if (epoch != commits_.state().epoch || phase_ != Phase::kDeploying) return;
    if (!answer) {
        say(services_.mesh.describe(worker) + " did not take it: " + answer.error().message());
        refused_.insert(worker);
        // Asking it again would change nothing, and nobody else is wanted.
        const bool is_final = !record_.on.empty() && commits_.state().last() == nullptr &&
                              answer.error().code() == Code::kUnsupported;
        if (is_final) {
            return conclude({.exit_code = kFailedExitCode, .failure = answer.error().message()});
        }
        if (++failures_ > kMaxFailures && answer.error().code() != Code::kUnavailable) {
            return conclude({.exit_code = kFailedExitCode, .failure = answer.error().message()});
        }
        return place();
    }
    phase_ = Phase::kRunning;
    refused_.clear();
    waiting_why_.clear();
    if (kill_reason_) command({{"do", "kill"}, {"reason", bytes_to_utf8(*kill_reason_)}});
    send_input();
}

void Deployment::lose_worker(const std::string& why) {
    if (phase_ != Phase::kRunning && phase_ != Phase::kDeploying) return;
    program_pid_ = 0;
    for (auto& [token, done] : std::exchange(checkpoints_, {})) {
        done(fail(Code::kUnavailable, why));
    }
    notify([&](RunObserver& observer) { observer.on_died(why); });
    services_.log->warn("vc={} {}", paths_.id(), why);
    const bool known_to_live = worker_ && services_.mesh.is_alive(*worker_);
    if (++failures_ > kMaxFailures && known_to_live) {
        return conclude({.exit_code = kFailedExitCode,
                         .failure = fmt::format("it died {} times without a new generation: {}",
                                                failures_, why)});
    }
    if (!record_.recover) {
        return conclude({.exit_code = kFailedExitCode, .failure = why + "; --recover never"});
    }
    std::erase(holders_, *worker_);
    if (known_to_live) holders_.push_back(*worker_);
    worker_.reset();
    // A commit under way ends first: it decides from where on.
    job([]() -> Status { return {}; }, [this](const Status&) { place(); });
    phase_ = Phase::kWaiting;
}

void Deployment::on_members_changed() {
    if (phase_ == Phase::kWaiting && retry_timer_.is_active()) return place();
    if (phase_ != Phase::kRunning || !worker_) return;
    if (!services_.mesh.is_alive(*worker_)) {
        if (grace_timer_.is_active()) return;
        return lose_worker("the peer " + services_.mesh.describe(*worker_) + " is gone");
    }
    update_replicas();
}

void Deployment::update_replicas() {
    std::vector<PeerId> wanted = services_.choose_replicas(*worker_, record_);
    if (wanted == replicas_) return;
    replicas_ = std::move(wanted);
    command({{"do", "replicas"}, {"peers", peers_to_json(replicas_)}});
}

// What the user asks.

Incarnation Deployment::incarnation() const { return {paths_.id(), commits_.state().epoch}; }

void Deployment::command(const Json& head, Bytes data) {
    if (worker_) send_command(services_.mesh, *worker_, incarnation(), head, std::move(data));
}

/// What the journal holds and the worker has not had.
void Deployment::send_input() {
    if (phase_ != Phase::kRunning) return;
    while (sent_input_bytes_ < input_.data_bytes() &&
           sent_input_bytes_ - taken_input_bytes_ < kInputWindowBytes) {
        const Result<Bytes> piece = input_.read(sent_input_bytes_, kInputPieceBytes);
        if (!piece || piece->empty()) break;
        command({{"do", "input"}, {"offset", sent_input_bytes_}}, *piece);
        sent_input_bytes_ += piece->size();
    }
    for (; sent_signals_ < input_.signals().size(); ++sent_signals_) {
        command({{"do", "signal"},
                 {"index", sent_signals_},
                 {"signal", input_.signals()[sent_signals_]}});
    }
    if (input_.ended() && sent_input_bytes_ == input_.data_bytes() && !sent_input_end_) {
        sent_input_end_ = true;
        command({{"do", "end-input"}});
    }
}

void Deployment::give_input(ByteView data) {
    if (const Status kept = input_.append_data(data); !kept) {
        return conclude({.exit_code = kFailedExitCode, .failure = kept.error().message()});
    }
    send_input();
}

void Deployment::end_input() {
    if (input_.ended()) return;
    if (const Status kept = input_.append_end(); !kept) {
        return conclude({.exit_code = kFailedExitCode, .failure = kept.error().message()});
    }
    send_input();
}

bool Deployment::wants_input() const {
    return !input_.ended() && phase_ == Phase::kRunning &&
           input_.data_bytes() - taken_input_bytes_ < kMaxUnsentInputBytes;
}

void Deployment::hang_up(Stream stream) {
    command({{"do", "hang-up"}, {"stream", static_cast<int>(stream)}});
}
void Deployment::hold_output(bool reader_is_behind) {
    command({{"do", "hold"}, {"held", reader_is_behind}});
}
void Deployment::resize_terminal(unsigned short rows, unsigned short columns) {
    command({{"do", "resize"}, {"rows", rows}, {"columns", columns}});
}

void Deployment::forward_signal(int signal) {
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) return;
    if (const Status kept = input_.append_signal(signal); !kept) {
        services_.log->error("vc={} {}", paths_.id(), kept.error().message());
    }
    send_input();
}

void Deployment::kill(std::string reason) {
    if (phase_ == Phase::kEnding || phase_ == Phase::kEnded) return;
    kill_reason_ = std::move(reason);
    if (phase_ == Phase::kWaiting) return place();
    command({{"do", "kill"}, {"reason", bytes_to_utf8(*kill_reason_)}});
}

void Deployment::checkpoint(CheckpointDone done) {
    if (phase_ != Phase::kRunning) {
        return done(fail(Code::kUnavailable, "the program does not run now"));
    }
    checkpoints_[next_token_++] = std::move(done);
    command({{"do", "checkpoint"}, {"token", next_token_}});
}

void Deployment::release(std::uint64_t output_bytes) {
    if (output_bytes <= released_bytes_ && released_bytes_ != 0) return;
    released_bytes_ = output_bytes;
    notify([&](RunObserver& observer) { observer.on_released(output_bytes); });
}

void Deployment::brief(RunObserver& observer) {
    if (released_bytes_ > 0) observer.on_released(released_bytes_);
    if (phase_ == Phase::kRunning && program_pid_ != 0) observer.on_started(program_pid_);
    if (!waiting_why_.empty()) observer.on_notice("waits for a peer: " + waiting_why_);
    if (outcome_) observer.on_finished(*outcome_);
}

Json Deployment::status() const {
    Json json;
    const GenerationRecord* last = commits_.state().last();
    const char* state = "running";
    switch (phase_) {
        case Phase::kWaiting: state = "waiting"; break;
        case Phase::kDeploying: state = "starting"; break;
        case Phase::kRunning: state = "running"; break;
        case Phase::kEnding: state = "ending"; break;
        case Phase::kEnded: state = "ended"; break;
    }
    json["state"] = state;
    json["generation"] = last == nullptr ? 0 : last->generation;
    json["epoch"] = commits_.state().epoch;
    json["protected"] = !commits_.state().unprotected;
    json["restores"] = statistics_.restores;
    json["peer"] = worker_ ? bytes_to_utf8(services_.mesh.describe(*worker_)) : "-";
    json["peer_id"] = worker_ ? worker_->to_string() : "";
    json["replicas"] = peers_to_json(holders_);
    if (!waiting_why_.empty()) json["waiting"] = waiting_why_;
    return json;
}

}  // namespace ppdsm
