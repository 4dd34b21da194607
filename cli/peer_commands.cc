// `ppdsm peer ...`: the daemon of this machine, and the mesh as it sees it.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/table.h"
#include "dsm/base/allocator.h"
#include "dsm/base/byte_text.h"
#include "runtime/peer/mesh/daemon.h"
#include "runtime/peer/mesh/invite.h"

namespace ppdsm {

namespace {

using Json = nlohmann::json;

constexpr const char* kDefaultListen = "0.0.0.0:7717";

struct PeerOptions {
    std::string home;
    std::string name;
    std::string listen = kDefaultListen;
    std::vector<std::string> advertise;
    std::vector<std::string> join;
    std::string memory;
    double cpus = 0;
    double yield_to_load = 0;
    bool foreground = false;
    bool json = false;
    std::string peer;
    std::string token;
    std::string valid = "1h";
};

Result<Home> open_home(const PeerOptions& options) {
    return options.home.empty() ? Home::open() : Home::open_at(options.home);
}

Result<Json> ask_daemon(const PeerOptions& options, const Json& request) {
    PPDSM_ASSIGN(const Home home, open_home(options));
    Result<Json> answer = ask_local(daemon_socket(home.directory()), request);
    if (!answer && answer.error().errno_value() != 0) {
        return fail(Code::kUnavailable, "no daemon runs in " + home.directory().string() +
                                            "; `ppdsm peer start` starts one");
    }
    return answer;
}

Result<DaemonOptions> daemon_options(const PeerOptions& options) {
    DaemonOptions daemon;
    daemon.name = options.name;
    if (daemon.name.empty()) {
        std::array<char, 256> host{};
        ::gethostname(host.data(), host.size() - 1);
        daemon.name = host.data();
    }
    PPDSM_ASSIGN(daemon.listen, Endpoint::parse(options.listen));
    for (const std::string& text : options.advertise) {
        PPDSM_ASSIGN(Endpoint endpoint, Endpoint::parse(text));
        daemon.advertised.push_back(std::move(endpoint));
    }
    for (const std::string& text : options.join) {
        if (text.starts_with("ppdsm-")) {
            PPDSM_TRY(Invitation::parse(text));
            daemon.join.push_back(text);
            continue;
        }
        PPDSM_ASSIGN(Endpoint endpoint, Endpoint::parse(text));
        daemon.call.push_back(std::move(endpoint));
    }
    if (!options.memory.empty()) {
        PPDSM_ASSIGN(daemon.memory_bytes, parse_size(options.memory));
    }
    daemon.cpus = options.cpus;
    daemon.yield_to_cores = options.yield_to_load;
    daemon.foreground = options.foreground;
    return daemon;
}

/// For systemd (sd_notify's protocol is one datagram).
void notify_supervisor(const std::string& state) {
    const char* path = ::getenv("NOTIFY_SOCKET");
    if (path == nullptr || *path == '\0') return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = path;
    if (name.size() >= sizeof address.sun_path) return;
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    if (name.front() == '@') address.sun_path[0] = '\0';
    const OwnedFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    (void)::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
                   reinterpret_cast<const sockaddr*>(&address), size);
}

/// Runs the daemon until it is stopped; `ready` is written to once it serves.
Status run_daemon(const PeerOptions& options, OwnedFd ready) {
    PPDSM_ASSIGN(const Home home, open_home(options));
    PPDSM_ASSIGN(DaemonOptions asked, daemon_options(options));
    const std::vector<std::string> invitations = asked.join;
    ::signal(SIGPIPE, SIG_IGN);
    keep_freed_memory();
    Loop loop;
    PPDSM_ASSIGN(const std::unique_ptr<Daemon> daemon, Daemon::start(loop, home, std::move(asked)));
    SignalWatcher on_term(loop, SIGTERM, [&](int) { daemon->stop(); });
    SignalWatcher on_int(loop, SIGINT, [&](int) { daemon->stop(); });
    for (const std::string& token : invitations) {
        daemon->mesh().join(token, [](const Status& joined) {
            if (!joined) report(joined.error().within("--join"));
        });
    }
    notify_supervisor("READY=1");
    if (ready.valid()) (void)!::write(ready.get(), "!", 1);
    ready.reset();
    loop.run();
    notify_supervisor("STOPPING=1");
    return {};
}

/// A session of its own; returns in the caller when the daemon serves, or with why it does not.
Status run_in_background(const PeerOptions& options) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("start the daemon");
    const OwnedFd begun(ends[0]);
    OwnedFd ready(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return fail_errno("start the daemon");
    if (child == 0) {
        ::setsid();
        const OwnedFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
        ::dup2(null.get(), STDIN_FILENO);
        ::dup2(null.get(), STDOUT_FILENO);
        ::dup2(null.get(), STDERR_FILENO);
        const int spare = ::fcntl(ready.get(), F_DUPFD_CLOEXEC, 3);
        const Status ran = run_daemon(options, std::move(ready));
        if (!ran) {
            const std::string why = ran.error().message();
            (void)!::write(spare, why.data(), why.size());
        }
        ::_exit(ran ? 0 : 1);
    }
    ready.reset();
    std::string said(4096, '\0');
    const ssize_t got = ::read(begun.get(), said.data(), said.size());
    if (got == 1 && said.front() == '!') return {};
    said.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return fail(
        Code::kUnavailable,
        said.empty() ? "the daemon died before it served; peer.log in its home says more" : said);
}

int run_start(const PeerOptions& options) {
    if (options.foreground) {
        const Status ran = run_daemon(options, OwnedFd());
        return ran ? 0 : report(ran.error());
    }
    if (const Status begun = run_in_background(options); !begun) return report(begun.error());
    const Result<Json> self = ask_daemon(options, {{"do", "id"}});
    if (!self) return report(self.error());
    fmt::print("{} {} at {}\n", (*self)["name"].get<std::string>(),
               (*self)["id"].get<std::string>(), (*self)["addresses"][0].get<std::string>());
    return 0;
}

int run_list(const PeerOptions& options) {
    const Result<Json> answer = ask_daemon(options, {{"do", "list"}});
    if (!answer) return report(answer.error());
    if (options.json) {
        fmt::print("{}\n", (*answer)["peers"].dump(1));
        return 0;
    }
    Table table({"NAME", "ID", "STATE", "ADDRESS", "SPEED>", "CORES>", "LOAD>", "PROGRAMS>"});
    for (const Json& peer : (*answer)["peers"]) {
        std::string state = peer["state"];
        if (peer["self"].get<bool>()) state = "here";
        if (peer.value("drained", false)) state += ", drained";
        if (peer.value("yielding", false)) state += ", in use";
        const auto& addresses = peer["addresses"];
        table.add({utf8_to_bytes(peer["name"]), peer["id"].get<std::string>().substr(0, 9), state,
                   addresses.empty() ? "-" : addresses[0].get<std::string>(),
                   fmt::format("{:.0f}", peer.value("speed", 0.0)),
                   std::to_string(peer.value("cores", 0)),
                   fmt::format("{:.1f}", peer.value("load", 0.0)),
                   std::to_string(peer.value("hosted", 0))});
    }
    table.print();
    return 0;
}

int run_show(const PeerOptions& options) {
    const Result<Json> answer = ask_daemon(options, {{"do", "show"}, {"peer", options.peer}});
    if (!answer) return report(answer.error());
    if (options.json) {
        fmt::print("{}\n", answer->dump(1));
        return 0;
    }
    for (const auto& [key, value] : answer->items()) {
        std::string text = value.is_string() ? value.get<std::string>() : value.dump();
        if (key == "cpu_features")
            text = fmt::format("{} of them; --json lists them", value.size());
        if (key.ends_with("_bytes")) text = format_bytes(value.get<std::uint64_t>());
        fmt::print("{:<20} {}\n", key, text);
    }
    return 0;
}

/// A request without an answer to show.
int run_plain(const PeerOptions& options, const Json& request) {
    const Result<Json> answer = ask_daemon(options, request);
    return answer ? 0 : report(answer.error());
}

int run_id(const PeerOptions& options) {
    const Result<Home> home = open_home(options);
    if (!home) return report(home.error());
    const Result<PeerKey> key = PeerKey::load_or_create(home->directory() / "identity.pem");
    if (!key) return report(key.error());
    fmt::print("{}\n", key->id().to_string());
    return 0;
}

int run_invite(const PeerOptions& options) {
    const Result<std::int64_t> valid_ms = parse_duration(options.valid);
    if (!valid_ms) return report(valid_ms.error());
    const Result<Json> answer = ask_daemon(options, {{"do", "invite"}, {"valid_ms", *valid_ms}});
    if (!answer) return report(answer.error());
    fmt::print("{}\n", (*answer)["token"].get<std::string>());
    return 0;
}

int run_trust_list(const PeerOptions& options) {
    const Result<Json> answer = ask_daemon(options, {{"do", "trust-list"}});
    if (!answer) return report(answer.error());
    if (options.json) {
        fmt::print("{}\n", (*answer)["entries"].dump(1));
        return 0;
    }
    Table table({"NAME", "ID", "ADDED BY"});
    for (const Json& entry : (*answer)["entries"]) {
        table.add({utf8_to_bytes(entry["name"]), entry["id"],
                   entry["added_by"].get<std::string>().substr(0, 9)});
    }
    table.print();
    return 0;
}

using Options = std::shared_ptr<PeerOptions>;

CLI::App* add_command(CLI::App& group, const char* name, const char* what, const Options& options,
                      std::function<int(const PeerOptions&)> run, int& exit_code) {
    CLI::App* command = group.add_subcommand(name, what);
    command->add_option("--home", options->home, "The daemon's home; default $PPDSM_HOME");
    command->callback([options, run = std::move(run), &exit_code] { exit_code = run(*options); });
    return command;
}

void add_start(CLI::App& peer, const Options& options, int& exit_code) {
    CLI::App* start =
        add_command(peer, "start", "Start this machine's daemon", options, run_start, exit_code);
    start->add_option("--name", options->name, "How people call it; default the host's name");
    start->add_option("--listen", options->listen, "HOST:PORT to listen at; port 0: any")
        ->capture_default_str();
    start
        ->add_option("--advertise", options->advertise,
                     "HOST:PORT at which others reach us, when it is not where we listen")
        ->expected(1)
        ->take_all();
    start
        ->add_option("--join", options->join, "An invitation, or HOST:PORT of a peer that knows us")
        ->expected(1)
        ->take_all();
    start->add_option("--cpus", options->cpus, "Most CPUs that programs of the mesh may use here");
    start->add_option("--memory", options->memory, "Most memory for programs of the mesh, e.g. 8G");
    start
        ->add_option("--yield-to-load", options->yield_to_load,
                     "Programs leave while others than they keep so many cores busy here")
        ->expected(0, 1)
        ->default_str("0.5");
    start->add_flag("--foreground", options->foreground, "Do not go into the background");
}

}  // namespace

void add_peer_commands(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<PeerOptions>();
    CLI::App* peer = app.add_subcommand("peer", "This machine's daemon and the mesh it is in");
    peer->require_subcommand(1);
    add_start(*peer, options, exit_code);
    const auto plain = [](const char* action) {
        return [action](const PeerOptions& given) { return run_plain(given, {{"do", action}}); };
    };
    add_command(*peer, "stop", "Stop the daemon; its programs go on elsewhere", options,
                plain("stop"), exit_code);
    add_command(*peer, "drain", "Take no more programs here; those that run here move away",
                options, plain("drain"), exit_code);
    add_command(*peer, "undrain", "Take programs again", options, plain("undrain"), exit_code);
    add_command(*peer, "list", "The peers of the mesh", options, run_list, exit_code)
        ->add_flag("--json", options->json, "For programs");
    CLI::App* show = add_command(*peer, "show", "All about one peer, by default this one", options,
                                 run_show, exit_code);
    show->add_option("PEER", options->peer, "Name or id");
    show->add_flag("--json", options->json, "For programs");
    add_command(*peer, "id", "This peer's id, to compare it by eye", options, run_id, exit_code);
    add_command(*peer, "invite", "Print an invitation that admits one peer", options, run_invite,
                exit_code)
        ->add_option("--valid", options->valid, "How long it is good")
        ->capture_default_str();
    add_command(
        *peer, "join", "Join the mesh that an invitation is for", options,
        [](const PeerOptions& given) {
            return run_plain(given, {{"do", "join"}, {"token", given.token}});
        },
        exit_code)
        ->add_option("TOKEN", options->token, "What `ppdsm peer invite` printed")
        ->required();
    CLI::App* trust = peer->add_subcommand("trust", "Whose keys the mesh accepts");
    trust->require_subcommand(1);
    add_command(*trust, "list", "The allow list", options, run_trust_list, exit_code)
        ->add_flag("--json", options->json, "For programs");
    add_command(
        *trust, "remove", "Accept a key no longer, on the whole mesh", options,
        [](const PeerOptions& given) {
            return run_plain(given, {{"do", "trust-remove"}, {"peer", given.peer}});
        },
        exit_code)
        ->add_option("PEER", options->peer, "Name or id")
        ->required();
}

}  // namespace ppdsm
