// The executor's beginnings: a first start, and the return to a generation after a death.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <system_error>

#include "criu-glue/criu/explain.h"
#include "criu-glue/sandbox/mount_tree.h"
#include "runtime/peer/executor.h"
#include "runtime/peer/fault_point.h"

namespace ppdsm {

namespace {

constexpr std::uint32_t kMaxRestoresPerGeneration = 3;

/// What makes a process a virtual thread's: the library, where its calls go, and whether it is one
/// that was spawned.
void add_link(const VcRecord& record, std::vector<std::string>& environment) {
    std::string preload = std::string("LD_PRELOAD=") + kRuntimePath;
    for (const std::string& variable : environment) {
        if (variable.starts_with("LD_PRELOAD=")) preload += ":" + variable.substr(11);
    }
    std::erase_if(environment, [](const std::string& variable) {
        return variable.starts_with("LD_PRELOAD=") || variable.starts_with("PPDSM_LINK=") ||
               variable.starts_with("PPDSM_SPAWNED=");
    });
    environment.push_back(std::move(preload));
    environment.push_back(std::string("PPDSM_LINK=") + kLinkPage);
    if (ThreadId{record.thread} != kRootThread) environment.emplace_back("PPDSM_SPAWNED=1");
}

}  // namespace

Result<FileView> Executor::fresh_view() {
    PPDSM_TRY(remove_tree(setup_.paths.previous_run()));
    // Kept until its files have been taken over; see restore_layer().
    if (::rename(setup_.paths.run().c_str(), setup_.paths.previous_run().c_str()) != 0 &&
        errno != ENOENT) {
        return fail_errno("put aside " + setup_.paths.run().string());
    }
    const std::filesystem::path init = setup_.libexec / "ppdsm-init";
    if (setup_.remote_files) {
        return build_file_view(setup_.remote_files->plan, setup_.paths, init, kFilesMount);
    }
    return build_file_view(setup_.record, setup_.paths, home_, init);
}

SandboxSpec Executor::sandbox_spec() const {
    const VcRecord& record = setup_.record;
    SandboxSpec spec;
    utsname names{};
    ::uname(&names);
    spec.hostname = record.hostname.empty() ? names.nodename : record.hostname;
    spec.skeleton = view_.skeleton;
    spec.refusals_log = setup_.paths.refusals();
    spec.private_paths = {home_.directory()};
    // Who asks for a name server without a network misses none.
    if (!record.host_network) spec.private_paths.emplace_back("/etc/resolv.conf");
    spec.mounts = view_.mounts;
    spec.file_roots = view_.file_roots;
    spec.uid = record.uid;
    spec.gid = record.gid;
    spec.host_network = record.host_network;
    spec.terminal = record.terminal;
    // A name with a slash is what the program sees of itself, as under any shell.
    const bool has_place = record.arguments.front().find('/') != std::string::npos;
    spec.program = has_place ? record.arguments.front() : record.program;
    spec.arguments = record.arguments;
    spec.environment = record.environment;
    if (record.thread != 0) add_link(record, spec.environment);
    spec.working_directory = record.working_directory;
    if (setup_.criu) spec.criu_command = setup_.criu->command;
    spec.tree_cgroups = limits_.directories();
    return spec;
}

Status Executor::spawn_warden() {
    ended_while_busy_.reset();
    if (limits_.directories().empty()) {
        const ResourceLimits limits{setup_.record.memory_bytes, setup_.record.cpus};
        PPDSM_ASSIGN(limits_, LimitGroup::create(fmt::format("ppdsm-{}-{}", setup_.paths.id(),
                                                             commits_.state().epoch),
                                                 limits, setup_.paths.limits()));
    }
    OwnedFd files;
    if (setup_.remote_files) {
        PPDSM_ASSIGN(files, setup_.remote_files->open_channel());
    }
    PPDSM_ASSIGN(WardenLink link, WardenLink::spawn(setup_.libexec / "ppdsm-warden", sandbox_spec(),
                                                    std::move(files)));
    warden_ = std::make_unique<WardenLink>(std::move(link));
    warden_poller_ = std::make_unique<Poller>(loop_, warden_->socket().fd().get(),
                                              [this](int events) { on_warden(events); });
    warden_poller_->watch(UV_READABLE | UV_DISCONNECT);
    return {};
}

Status Executor::start_afresh() {
    phase_ = Phase::kStarting;
    if (link_) link_->detach();
    restored_calls_ = 0;
    PPDSM_TRY(roll_output_back(0));
    PPDSM_ASSIGN(view_, fresh_view());
    PPDSM_TRY(make_mount_points(view_));
    PPDSM_TRY(make_call_page());
    PPDSM_TRY(attach_link());
    checkpointer_->attach(view_);
    PPDSM_TRY(spawn_warden());
    WardenMessage start{WardenMessage::Type::kStart, {}, {}, {}};
    if (!setup_.record.terminal) {
        PPDSM_ASSIGN(start.fds, streams_.make_pipes(0));
    }
    return warden_->socket().send(start);
}

// The link of a virtual thread.

std::optional<std::filesystem::path> Executor::call_page() const {
    for (const WritablePlace& place : view_.places) {
        if (place.target == kLinkDirectory) {
            return place.upper / std::filesystem::path(kLinkPage).filename();
        }
    }
    return std::nullopt;
}

Status Executor::make_call_page() {
    const std::optional<std::filesystem::path> page = call_page();
    if (!page) return {};
    const VcRecord& record = setup_.record;
    PPDSM_TRY(create_call_page(*page, ThreadId{record.thread}));
    if (record.uid != ::geteuid() && ::chown(page->c_str(), record.uid, record.gid) != 0) {
        return fail_errno("give " + page->string() + " to the program");
    }
    return {};
}

Status Executor::attach_link() {
    const std::optional<std::filesystem::path> page = call_page();
    if (!page || !setup_.on_call) return {};
    if (!link_) {
        link_ = std::make_unique<HostedLink>(
            loop_, HostedLink::Callbacks{setup_.on_call,
                                         [this](const Error& why) { kill(why.message()); }});
    }
    return link_->attach(*page);
}

void Executor::answer_call(std::uint64_t number, Bytes answer) {
    if (link_) link_->answer(number, std::move(answer));
}

void Executor::became_alive(WardenMessage message) {
    watchdog_.stop();
    if (message.fds.empty()) return fail_run(Error(Code::kCorrupt, "the warden sent no process"));
    init_ = std::move(message.fds[0]);
    const std::uint64_t input_bytes = restoring_ ? restoring_->input_bytes : 0;
    if (message.fds.size() > 1) streams_.adopt_terminal(std::move(message.fds[1]), input_bytes);
    phase_ = Phase::kRunning;
    const std::uint64_t signals_seen = restoring_ ? restoring_->input_signals : 0;
    const bool restored = message.type == WardenMessage::Type::kRestored;
    const std::uint64_t generation = restoring_ ? restoring_->generation : 0;
    restoring_.reset();
    restoring_manifest_ = {};
    streams_.start();
    known_memory_kills_ = limits_.out_of_memory_kills();
    std::vector<int> signals = std::exchange(early_signals_, {});
    if (restored) {
        const std::span<const int> since = input_.signals_from(signals_seen);
        signals.assign(since.begin(), since.end());
    }
    if (const pid_t program = program_of(init_pid()); program > 0) {
        for (const int signal : signals) signal_group(program, signal);
    }
    if (restored) {
        notify([&](RunObserver& observer) { observer.on_restored(generation); });
    } else if (statistics_.restores > 0) {
        notify([&](RunObserver& observer) { observer.on_restored(0); });
    }
    notify([&](RunObserver& observer) { observer.on_started(program_of(init_pid())); });
    if (!setup_.criu && setup_.record.checkpoint_every_ms >= 0) return begin_checkpoint();
    if (kill_reason_) return warden_->kill();  // It came while there was nothing to kill.
    if (!waiting_.empty()) return begin_checkpoint();
    schedule_checkpoint();
}

const GenerationRecord* Executor::restorable_generation() const {
    const CommitState& state = commits_.state();
    for (auto record = state.generations.rbegin(); record != state.generations.rend(); ++record) {
        const auto restores = state.restores.find(record->generation);
        const std::uint32_t tried = restores == state.restores.end() ? 0 : restores->second;
        if (tried < kMaxRestoresPerGeneration && !unsound_.contains(record->generation))
            return &*record;
    }
    return nullptr;
}

void Executor::bring_back() {
    if (kill_reason_) return finish(SIGKILL);
    phase_ = Phase::kRestoring;
    ++statistics_.restores;
    const CommitState& state = commits_.state();
    if (const GenerationRecord* record = restorable_generation(); record != nullptr) {
        return restore(*record);
    }
    const auto restarts = state.restores.find(0);
    if (!state.generations.empty() ||
        (restarts != state.restores.end() && restarts->second >= kMaxRestoresPerGeneration)) {
        return fail_run(Error(
            Code::kUnavailable,
            fmt::format("the program died again after each of its restores ({} generations "
                        "kept, {} tries each); see `ppdsm checkpoint list {}`",
                        state.generations.size(), kMaxRestoresPerGeneration, setup_.paths.id())));
    }
    // Nothing was ever committed or released: the start itself is generation 0.
    if (Status noted = commits_.note_restore(0); !noted) return fail_run(noted.error());
    if (Status started = start_afresh(); !started) fail_run(started.error());
}

void Executor::offload(std::function<Status()> work, std::function<void(const Status&)> done) {
    auto result = std::make_shared<Status>();
    loop_.offload([result, work = std::move(work)] { *result = work(); },
                  [result, done = await(std::move(done))] { done(*result); });
}

/// Until the result is called, a job is under way.
CommitAuthority::Done Executor::await(std::function<void(const Status&)> done) {
    busy_ = true;
    return [this, done = std::move(done)](const Status& result) { end_job([&] { done(result); }); };
}

void Executor::end_job(const std::function<void()>& done) {
    busy_ = false;
    shown_commits_ = commits_.state();
    if (failed_while_busy_) return fail_run(*std::exchange(failed_while_busy_, {}));
    done();
    if (ended_while_busy_ && !busy_) on_ended(*std::exchange(ended_while_busy_, {}));
}

void Executor::restore(const GenerationRecord& record) {
    restoring_ = record;
    if (link_) link_->detach();
    restored_calls_ = record.calls;
    if (!setup_.criu) {
        return fail_run(Error(Code::kUnsupported, "cannot restore: " + setup_.criu_problem));
    }
    if (Status noted = commits_.note_restore(record.generation); !noted)
        return fail_run(noted.error());
    if (Status rolled = roll_output_back(record.output_bytes); !rolled)
        return fail_run(rolled.error());
    offload([this] { return rebuild_files(*restoring_); },
            [this](const Status& rebuilt) {
                fault_point("restore");
                if (!rebuilt) return restore_failed(rebuilt.error(), false);
                checkpointer_->attach(view_);
                if (Status linked = attach_link(); !linked) {
                    return restore_failed(linked.error(), false);
                }
                if (Status spawned = spawn_warden(); !spawned) return fail_run(spawned.error());
                const Status asked =
                    warden_->socket().send({WardenMessage::Type::kImageDirectory, {}, {}, {}});
                if (!asked) restore_failed(asked.error(), true);
            });
}

Status Executor::rebuild_files(const GenerationRecord& record) {
    PPDSM_ASSIGN(restoring_manifest_, checkpointer_->load(record));
    PPDSM_ASSIGN(view_, fresh_view());
    if (must_apply_again_) {
        const Status again = apply_generation(*commits_.state().last());
        // A damaged generation is not brought back either; the next one's apply mends home.
        if (!again && again.error().code() != Code::kCorrupt) return again;
        must_apply_again_ = false;
    }
    PPDSM_TRY(checkpointer_->restore_layers(restoring_manifest_, view_));
    (void)remove_tree(setup_.paths.previous_run());  // Else the next incarnation clears it.
    return make_mount_points(view_);
}

void Executor::send_images(WardenMessage message) {
    auto directory = std::make_shared<OwnedFd>(std::move(message.fds.at(0)));
    offload(
        [this, directory] { return checkpointer_->write_images(restoring_manifest_, *directory); },
        [this](const Status& written) {
            if (ended_while_busy_) return;
            fault_point("restore-images");
            if (!written) return restore_failed(written.error(), false);
            if (Status asked = request_restore(); !asked) restore_failed(asked.error(), true);
        });
}

Status Executor::request_restore() {
    WardenMessage request{WardenMessage::Type::kRestore, {}, {}, {}};
    if (!setup_.record.terminal) {
        PPDSM_ASSIGN(request.fds, streams_.make_pipes(restoring_->input_bytes));
        for (const std::string& key : restoring_manifest_.stdio) request.text += key + "\n";
    }
    watchdog_.start(kCriuBaseMs + restoring_manifest_.bytes_total / kCriuBytesPerMs);
    return warden_->socket().send(request);
}

/// What was written after the generation is cut off. What of it had been released already must come
/// again, byte for byte.
Status Executor::roll_output_back(std::uint64_t output_bytes) {
    std::uint64_t at = output_bytes;
    while (at < released_bytes_) {
        PPDSM_ASSIGN(OutputLog::Piece piece, output_.read(at, released_bytes_));
        at = piece.next_bytes;
        streams_.expect(piece.stream, std::move(piece.data));
    }
    return output_.truncate(std::max(output_bytes, released_bytes_));
}

void Executor::restore_failed(const Error& reason, bool may_succeed_again) {
    watchdog_.stop();
    warden_poller_.reset();
    warden_.reset();
    if (kill_reason_) return finish(SIGKILL);
    const Error error = explain_criu_failure(reason);
    if (restoring_ && !may_succeed_again) unsound_.insert(restoring_->generation);
    const std::string what = restoring_ ? fmt::format("generation {} cannot be restored: {}",
                                                      restoring_->generation, error.message())
                                        : error.message();
    notify([&](RunObserver& observer) { observer.on_died(what); });
    if (restorable_generation() == nullptr) return fail_run(Error(error.code(), what));
    bring_back();
}

}  // namespace ppdsm
