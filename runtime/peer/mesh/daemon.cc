#include "runtime/peer/mesh/daemon.h"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "criu-glue/criu/locate_criu.h"
#include "dsm/base/byte_text.h"
#include "dsm/base/wall_clock.h"
#include "runtime/peer/host_record.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::uint64_t kAdvertMs = 5'000;
/// Speed is measured again when it is this old and the machine idles.
constexpr std::int64_t kMeasureEveryUs = std::int64_t{300} * 1'000'000;
constexpr double kIdleLoad = 0.3;
constexpr std::uint64_t kLeaveMs = 100;

Result<OwnedFd> lock_home(const Home& home) {
    const auto path = home.directory() / "peer.lock";
    PPDSM_ASSIGN(OwnedFd lock, open_file(path, O_RDWR | O_CREAT, 0600));
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        return fail(Code::kUnavailable, "a daemon runs already in " + home.directory().string() +
                                            "; `ppdsm peer stop` ends it, --home starts another "
                                            "elsewhere");
    }
    return lock;
}

std::shared_ptr<spdlog::logger> make_log(const Home& home, bool foreground) {
    spdlog::sink_ptr sink;
    if (foreground) {
        sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
    } else {
        sink = std::make_shared<spdlog::sinks::basic_file_sink_st>(
            (home.directory() / "peer.log").string());
    }
    auto log = std::make_shared<spdlog::logger>("peer", std::move(sink));
    log->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
    log->flush_on(spdlog::level::info);
    if (::getenv("PPDSM_DEBUG") != nullptr) log->set_level(spdlog::level::debug);
    return log;
}

}  // namespace

std::filesystem::path daemon_socket(const std::filesystem::path& home) {
    return home / "peer.sock";
}

Result<std::unique_ptr<Daemon>> Daemon::start(Loop& loop, const Home& home, DaemonOptions options) {
    PPDSM_ASSIGN(OwnedFd lock, lock_home(home));
    std::unique_ptr<Daemon> daemon(new Daemon(loop, home, std::move(options), std::move(lock)));
    const DaemonOptions& asked = daemon->options_;
    PPDSM_ASSIGN(daemon->mesh_, Mesh::start(loop, {home.directory(), asked.name, asked.listen,
                                                   asked.advertised, daemon->log_}));
    daemon->warrants_ = std::make_unique<Warrants>(*daemon->mesh_, daemon->home_, daemon->log_);
    daemon->replicas_ = std::make_unique<Replicas>(loop, *daemon->mesh_, *daemon->warrants_,
                                                   daemon->home_, daemon->log_);
    PPDSM_ASSIGN(daemon->files_, MeshFiles::open(loop, *daemon->mesh_, *daemon->warrants_,
                                                 daemon->home_, daemon->log_));
    daemon->make_computers();
    daemon->listen_for_programs();
    daemon->resume_deployments();
    PPDSM_TRY(daemon->listen_locally());
    daemon->measure();
    daemon->advert_timer_.start(kAdvertMs, kAdvertMs);
    for (const Endpoint& endpoint : asked.call) daemon->mesh_->call(endpoint);
    // Peers of earlier runs are found again by themselves.
    daemon->log_->info("peer {} ({}) listens at {}", asked.name,
                       daemon->mesh_->self().id.to_string(), daemon->mesh_->addresses().front());
    return daemon;
}

Daemon::Daemon(Loop& loop, const Home& home, DaemonOptions options, OwnedFd lock)
    : loop_(loop),
      home_(home),
      options_(std::move(options)),
      lock_(std::move(lock)),
      log_(make_log(home, options_.foreground)),
      advert_timer_(loop, [this] { look_around(); }),
      stop_timer_(loop, [this] { loop_.stop(); }),
      owner_watch_(options_.yield_to_cores),
      started_unix_ms_(unix_now_ms()) {
    capacity_.max_cpus = options_.cpus;
    capacity_.max_memory_bytes = options_.memory_bytes;
    std::error_code absent;
    capacity_.drained = std::filesystem::exists(home.directory() / "drained", absent);
}

Daemon::~Daemon() { ::unlink(daemon_socket(home_.directory()).c_str()); }

void Daemon::stop() {
    if (std::exchange(stopping_, true)) return;
    log_->info("stopping");
    mesh_->leave();
    for (auto& [vc, run] : hosted_) run->stop("the daemon is stopped");
    // What was said goes out before the loop ends.
    stop_timer_.start(kLeaveMs);
}

// What it offers.

void Daemon::measure() {
    if (measuring_) return;
    measuring_ = true;
    auto measured = std::make_shared<Capacity>(capacity_);
    loop_.offload(
        [measured, cache = home_.cache()] {
            measured->speed = measure_speed();
            const Result<CriuInstallation> criu = locate_criu(cache);
            measured->host = describe_host(criu ? criu->version_text : "");
        },
        [this, measured] {
            measuring_ = false;
            measured_us_ = monotonic_now_us();
            capacity_.speed = measured->speed;
            capacity_.host = measured->host;
            advertise();
        });
}

void Daemon::advertise() {
    read_machine(capacity_);
    const bool stale = monotonic_now_us() - measured_us_ > kMeasureEveryUs;
    if (stale && capacity_.load < kIdleLoad && capacity_.hosted == 0) return measure();
    mesh_->advertise(encode_capacity(capacity_));
}

Status Daemon::set_drained(bool drained) {
    const auto mark = home_.directory() / "drained";
    if (drained) {
        PPDSM_TRY(replace_file(mark, {}, 0600));
    } else {
        ::unlink(mark.c_str());
        PPDSM_TRY(sync_directory(home_.directory()));
    }
    capacity_.drained = drained;
    advertise();
    loop_.post([this] { look_around(); });
    return {};
}

// The user's commands.

Status Daemon::listen_locally() {
    PPDSM_ASSIGN(listener_, listen_at(daemon_socket(home_.directory())));
    listener_poller_ =
        std::make_unique<Poller>(loop_, listener_.get(), [this](int) { accept_client(); });
    listener_poller_->watch(UV_READABLE);
    return {};
}

void Daemon::accept_client() {
    OwnedFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;
    const std::uint64_t id = next_client_++;
    auto socket = std::make_unique<LocalSocket>(loop_, std::move(fd));
    socket->listen({[this, id](const Json& head, LocalMessage) { on_request(id, head); },
                    [this, id] { clients_.erase(id); }});
    clients_[id].socket = std::move(socket);
}

void Daemon::answer(std::uint64_t client, const Json& reply) {
    const auto found = clients_.find(client);
    if (found != clients_.end()) found->second.socket->send(reply);
}

void Daemon::on_request(std::uint64_t client, const Json& head) {
    if (head.value("do", "") == "join") {
        return mesh_->join(head.value("token", ""), [this, client](const Status& joined) {
            answer(client,
                   joined ? Json::object() : Json{{"error", error_to_json(joined.error())}});
        });
    }
    const std::string action = head.value("do", "");
    if (action == "migrate") return migrate(client, head);
    if (action == "exec" || action == "attach") {
        const Result<Json> attached = attach(client, head);
        if (!attached) return answer(client, {{"error", error_to_json(attached.error())}});
        return answer(client, *attached);
    }
    const Result<Json> reply = handle(head);
    answer(client, reply ? *reply : Json{{"error", error_to_json(reply.error())}});
}

Result<Json> Daemon::handle(const Json& request) {
    const std::string action = request.value("do", "");
    if (action == "list") return list();
    if (action == "show") return show(request.value("peer", ""));
    if (action == "id") return describe_member(mesh_->self());
    if (action == "stop") {
        loop_.post([this] { stop(); });
        return Json::object();
    }
    if (action == "drain" || action == "undrain") {
        PPDSM_TRY(set_drained(action == "drain"));
        return Json::object();
    }
    if (action == "invite") {
        PPDSM_ASSIGN(const std::string token,
                     mesh_->invite(request.value("valid_ms", std::int64_t{3'600'000})));
        return Json{{"token", token}};
    }
    if (action == "trust-list" || action == "trust-remove") return edit_trust(request);
    return fail(Code::kInvalid, "the daemon does not know \"" + action +
                                    "\"; it is of another release than this command");
}

Result<Json> Daemon::edit_trust(const Json& request) {
    if (request.value("do", "") == "trust-remove") {
        const std::string text = request.value("peer", "");
        Result<PeerId> id = PeerId::parse(text);
        if (!id) id = mesh_->resolve(text);
        if (!id) return fail(id.error());
        PPDSM_TRY(mesh_->distrust(*id));
        return Json::object();
    }
    Json entries = Json::array();
    for (const TrustEntry& entry : mesh_->trust().entries()) {
        if (entry.removed) continue;
        const Member* member = mesh_->find(entry.key.id());
        entries.push_back({{"id", entry.key.id().to_string()},
                           {"name", bytes_to_utf8(member != nullptr ? member->name : entry.name)},
                           {"added_unix_ms", entry.added_unix_ms},
                           {"added_by", entry.added_by.to_string()}});
    }
    return Json{{"entries", entries}};
}

Json Daemon::describe_member(const Member& member) const {
    const bool is_self = member.id == mesh_->self().id;
    Json json = {{"id", member.id.to_string()},
                 {"name", bytes_to_utf8(member.name)},
                 {"state", member_state_name(member.state)},
                 {"self", is_self},
                 {"linked", is_self || mesh_->is_linked(member.id)},
                 {"instance", member.instance},
                 {"addresses", member.addresses}};
    Result<Capacity> capacity = decode_capacity(member.advert);
    if (is_self) capacity = capacity_;
    if (!capacity) return json;
    json["speed"] = capacity->speed;
    json["cores"] = capacity->cores;
    json["memory_bytes"] = capacity->memory_bytes;
    json["free_memory_bytes"] = capacity->free_memory_bytes;
    json["load"] = capacity->load;
    json["hosted"] = capacity->hosted;
    json["max_cpus"] = capacity->max_cpus;
    json["max_memory_bytes"] = capacity->max_memory_bytes;
    json["drained"] = capacity->drained;
    json["yielding"] = capacity->yielding;
    json["machine"] = capacity->host.machine;
    json["kernel"] = capacity->host.kernel_release;
    json["criu"] = capacity->host.criu_version;
    json["cpu_features"] = capacity->host.cpu_features;
    return json;
}

Json Daemon::list() const {
    Json peers = Json::array();
    peers.push_back(describe_member(mesh_->self()));
    for (const Member* member : mesh_->members()) peers.push_back(describe_member(*member));
    return {{"peers", peers}};
}

Result<Json> Daemon::show(const std::string& peer) const {
    const PeerId self = mesh_->self().id;
    PeerId id = self;
    if (!peer.empty()) {
        PPDSM_ASSIGN(id, mesh_->resolve(peer));
    }
    if (id == self) {
        Json json = describe_member(mesh_->self());
        json["home"] = home_.directory().string();
        json["pid"] = ::getpid();
        json["started_unix_ms"] = started_unix_ms_;
        json["refused_connections"] = mesh_->refusals();
        json["last_refusal"] = mesh_->last_refusal();
        return json;
    }
    return describe_member(*mesh_->find(id));
}

}  // namespace ppdsm
