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

/// What ends a program that does not handle them.
const std::set<int> kEnding = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

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
    PPDSM_TRY(deployment->show_files());
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
      truth_(commits_.state()),
      home_files_(paths_, record_),
      retry_timer_(services_.loop, [this] { place(); }),
      grace_timer_(services_.loop,
                   [this] { lose_worker("its peer does not say that it runs there"); }) {
    epoch_ = truth_.epoch;
    if (truth_.last() != nullptr) released_bytes_ = truth_.last()->output_bytes;
    if (truth_.end) released_bytes_ = truth_.end->output_bytes;
    if (truth_.unprotected) released_bytes_ = output_.size_bytes();
}

Deployment::~Deployment() {
    *alive_ = false;
    services_.files.hide(paths_.id());
}

/// What is shown was planned once: it stays the same whatever comes and goes at home.
Status Deployment::show_files() {
    const Result<std::string> text = read_text(paths_.plan());
    if (!text && text.error().code() != Code::kNotFound) return fail(text.error());
    if (!text) return {};  // begin() will make it.
    PPDSM_ASSIGN(plan_, decode_plan(*text));
    return services_.files.show(paths_.id(), plan_,
                                [this](const PeerId& peer) { return involves(peer); });
}

bool Deployment::involves(const PeerId& peer) const {
    const auto has = [&](const std::vector<PeerId>& peers) {
        return std::find(peers.begin(), peers.end(), peer) != peers.end();
    };
    return worker_ == peer || has(replicas_) || has(holders_);
}

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
    if (const auto host = json.find("made_on"); host != json.end() && host->is_object()) {
        made_on_ = placement::Cpu{host->value("machine", ""),
                                  host->value("features", std::vector<std::string>{})};
    }
    return {};
}

std::string Deployment::encode_placement() const {
    Json json = {{"worker", worker_ ? worker_->to_string() : ""},
                 {"holders", peers_to_json(holders_)}};
    if (made_on_) {
        json["made_on"] = {{"machine", made_on_->machine}, {"features", made_on_->features}};
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

/// Work that blocks, one piece at a time; the next waits. Only such work touches the commit log.
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
                               truth_ = commits_.state();
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

// What the user asks.

Incarnation Deployment::incarnation() const { return {paths_.id(), epoch_}; }

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
    for (const int signal : input_.signals_from(sent_signals_)) {
        command({{"do", "signal"}, {"index", sent_signals_++}, {"signal", signal}});
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
    if (phase_ == Phase::kWaiting) {
        // Before the program's first moment there is nobody but us to be ended.
        if (epoch_ == 0 && kEnding.contains(signal)) {
            return conclude({.exit_code = 128 + signal});
        }
        say("the signal reaches the program when it goes on; `ppdsm kill --signal KILL` ends it "
            "now");
    }
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

void Deployment::answer_call(std::uint64_t number, ByteView answer) {
    send_in_parts({{"do", "answer"}}, number, answer,
                  [this](const Json& head, Bytes part) { command(head, std::move(part)); });
}

void Deployment::tell_thread_release(const ThreadRelease& release) {
    notify([&](RunObserver& observer) { observer.on_thread_released(release); });
}

void Deployment::checkpoint(CheckpointDone done) {
    if (phase_ != Phase::kRunning) {
        return done(fail(Code::kUnavailable, "the program does not run now"));
    }
    checkpoints_[next_token_] = std::move(done);
    ask_checkpoint();
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
    const GenerationRecord* last = truth_.last();
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
    json["epoch"] = epoch_;
    json["protected"] = !truth_.unprotected;
    json["restores"] = statistics_.restores;
    json["peer"] = worker_ ? bytes_to_utf8(services_.mesh.describe(*worker_)) : "-";
    json["peer_id"] = worker_ ? worker_->to_string() : "";
    json["replicas"] = peers_to_json(holders_);
    if (!waiting_why_.empty()) json["waiting"] = waiting_why_;
    return json;
}

}  // namespace ppdsm
