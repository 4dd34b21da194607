// `ppdsm ps`, `logs`, `kill`, `wait`, `rm`: virtual computers, running and ended.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/table.h"
#include "dsm/base/byte_text.h"
#include "dsm/base/wall_clock.h"
#include "runtime/peer/cgroup.h"
#include "runtime/peer/control.h"
#include "runtime/peer/mesh/daemon.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

namespace {

using Json = nlohmann::json;

struct Found {
    VcPaths paths;
    VcRecord record;
};

Result<Found> find_vc(const std::string& id_or_name) {
    PPDSM_ASSIGN(const Home home, Home::open());
    PPDSM_ASSIGN(VcPaths paths, home.find(id_or_name));
    PPDSM_ASSIGN(VcRecord record, read_record(paths));
    return Found{std::move(paths), std::move(record)};
}

std::string end_text(const EndRecord& end) {
    if (!end.failure.empty()) return "failed";
    if (WIFEXITED(end.wait_status)) return fmt::format("exited {}", WEXITSTATUS(end.wait_status));
    return fmt::format("killed by {}", ::sigabbrev_np(WTERMSIG(end.wait_status)));
}

/// One line, however many the arguments have.
std::string command_line(const VcRecord& record) {
    std::string line;
    for (const std::string& argument : record.arguments) {
        line += (line.empty() ? "" : " ") + argument;
    }
    std::replace_if(
        line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, ' ');
    return line;
}

/// What the executor says; what the commit log says when there is none.
Json describe(const VcPaths& paths, const VcRecord& record) {
    Json json = {{"id", paths.id()},
                 {"name", bytes_to_utf8(record.name)},
                 {"peer", "local"},
                 {"command", bytes_to_utf8(command_line(record))},
                 {"created_unix_ms", record.created_unix_ms},
                 {"pids", Json::array()}};
    const Result<CommitState> commits = CommitLog::read(paths.commits());
    if (!commits) {
        json["state"] = "damaged";
        json["error"] = commits.error().message();
        return json;
    }
    json["generation"] = commits->last() == nullptr ? 0 : commits->last()->generation;
    json["epoch"] = commits->epoch;
    if (is_locked(paths)) {
        json["state"] = "starting";
        if (const Result<Json> live = ask_executor(paths, {{"do", "status"}})) json.update(*live);
    } else if (commits->end && commits->applied) {
        json["state"] = end_text(*commits->end);
        json["exit"] = shell_exit_code(commits->end->wait_status);
        if (!commits->end->failure.empty()) {
            json["failure"] = bytes_to_utf8(commits->end->failure);
        }
    } else {
        json["state"] = "interrupted";
    }
    return json;
}

int run_ps(bool all, bool as_json) {
    const Result<Home> home = Home::open();
    if (!home) return report(home.error());
    Json list = Json::array();
    for (const VcPaths& paths : home->list()) {
        const Result<VcRecord> record = read_record(paths);
        if (!record) {
            report(record.error());
            continue;
        }
        Json vc = describe(paths, *record);
        if (all || as_json || is_locked(paths) || vc["state"] == "interrupted")
            list.push_back(std::move(vc));
    }
    if (as_json) {
        fmt::print("{}\n", list.dump(1));
        return 0;
    }
    Table table({"ID", "NAME", "STATE", "PEER", "GENERATION>", "PROCESSES", "COMMAND"});
    for (const Json& vc : list) {
        std::string pids;
        for (const Json& process : vc["pids"])
            pids += (pids.empty() ? "" : ",") + std::to_string(process["pid"].get<int>());
        table.add({vc["id"], vc["name"], vc["state"], vc["peer"],
                   std::to_string(vc.value("generation", 0)), pids.empty() ? "-" : pids,
                   vc["command"].get<std::string>().substr(0, 60)});
    }
    table.print();
    return 0;
}

/// Prints committed output from `from_bytes`; returns where it stopped.
Result<std::uint64_t> print_output(const VcPaths& paths, std::uint64_t from_bytes,
                                   std::uint64_t to_bytes) {
    PPDSM_ASSIGN(const OutputLog log, OutputLog::open(paths.output(), false));
    while (from_bytes < to_bytes) {
        PPDSM_ASSIGN(const OutputLog::Piece piece, log.read(from_bytes, to_bytes));
        const int stream = piece.stream == Stream::kStdout ? STDOUT_FILENO : STDERR_FILENO;
        const OwnedFd out(::fcntl(stream, F_DUPFD_CLOEXEC, 0));
        PPDSM_TRY(write_all(out, piece.data));
        from_bytes = piece.next_bytes;
    }
    return from_bytes;
}

std::uint64_t committed_output(const CommitState& commits) {
    if (commits.end) return commits.end->output_bytes;
    return commits.last() == nullptr ? 0 : commits.last()->output_bytes;
}

/// Whether a daemon of this home goes on with it, when there is one.
bool is_daemons(const VcPaths& paths) {
    std::error_code absent;
    return std::filesystem::exists(paths.placement(), absent);
}

/// A VC whose news somebody waits for.
class Watch {
public:
    explicit Watch(VcPaths paths)
        : paths_(std::move(paths)), changes_(::inotify_init1(IN_CLOEXEC)) {
        ::inotify_add_watch(changes_.get(), paths_.directory.c_str(), IN_MODIFY | IN_CREATE);
    }

    void wait() {
        pollfd changed{changes_.get(), POLLIN, 0};
        ::poll(&changed, 1, 1000);  // The second look is for a death without a word.
        std::array<char, 4096> events{};
        if ((changed.revents & POLLIN) != 0)
            (void)!::read(changes_.get(), events.data(), events.size());
    }

    /// Nobody runs it and it has not ended: false when nobody will unless he is asked to. Says once
    /// what is waited for.
    bool may_go_on() {
        if (!is_daemons(paths_)) return false;
        if (!std::exchange(told_, true)) {
            std::fputs(
                fmt::format("ppdsm: the daemon that looks after {} has ended; waits until it "
                            "is started again (`ppdsm peer start`)\n",
                            paths_.id())
                    .c_str(),
                stderr);
        }
        return true;
    }

private:
    VcPaths paths_;
    OwnedFd changes_;
    bool told_ = false;
};

int run_logs(const std::string& vc, bool follow) {
    const Result<Found> found = find_vc(vc);
    if (!found) return report(found.error());
    Watch watch(found->paths);
    std::uint64_t shown = 0;
    for (;;) {
        const bool running = is_locked(found->paths);
        const Result<CommitState> commits = CommitLog::read(found->paths.commits());
        if (!commits) return report(commits.error());
        const Result<std::uint64_t> printed =
            print_output(found->paths, shown, committed_output(*commits));
        if (!printed && printed.error().code() != Code::kNotFound) return report(printed.error());
        shown = printed.value_or(shown);
        if (!follow || commits->end || (!running && !watch.may_go_on())) return 0;
        watch.wait();
    }
}

int run_wait(const std::string& vc) {
    const Result<Found> found = find_vc(vc);
    if (!found) return report(found.error());
    Watch watch(found->paths);
    for (;;) {
        if (Status ended = wait_until_unlocked(found->paths); !ended) return report(ended.error());
        const Result<CommitState> commits = CommitLog::read(found->paths.commits());
        if (!commits) return report(commits.error());
        if (commits->end) {
            const std::string& failure = commits->end->failure;
            if (!failure.empty()) fmt::print(stderr, "ppdsm: {}\n", failure);
            return shell_exit_code(commits->end->wait_status);
        }
        if (!watch.may_go_on()) break;
        watch.wait();
    }
    return report(Error(Code::kUnavailable,
                        fmt::format("{} was interrupted; `ppdsm resume {}` goes on with it",
                                    found->paths.id(), found->paths.id())));
}

Result<int> parse_signal(std::string name) {
    if (!name.empty() && std::all_of(name.begin(), name.end(), ::isdigit))
        return std::atoi(name.c_str());
    if (name.starts_with("SIG")) name = name.substr(3);
    for (int number = 1; number < NSIG; ++number) {
        const char* known = ::sigabbrev_np(number);
        if (known != nullptr && name == known) return number;
    }
    return fail(Code::kInvalid, "unknown signal " + name);
}

int run_kill(const std::string& vc, const std::string& signal_name) {
    const Result<Found> found = find_vc(vc);
    if (!found) return report(found.error());
    const Result<int> signal = parse_signal(signal_name);
    if (!signal) return report(signal.error());
    const Result<Json> answer = ask_executor(found->paths, {{"do", "kill"}, {"signal", *signal}});
    return answer ? 0 : report(answer.error());
}

Status remove_vc(const VcPaths& paths) {
    PPDSM_ASSIGN(const OwnedFd lock, lock_vc(paths));
    PPDSM_TRY(LimitGroup::remove_noted(paths.limits()));
    // What this peer keeps of a computation of the mesh lies beside.
    PPDSM_ASSIGN(const Home home, Home::open());
    PPDSM_TRY(remove_tree(home.hosted(paths.id()).directory));
    return remove_tree(paths.directory);
}

/// Ids of those that have ended, as their logs say; not of those that `resume` could go on with.
Result<std::vector<std::string>> ended_vcs() {
    PPDSM_ASSIGN(const Home home, Home::open());
    std::vector<std::string> ended;
    for (const VcPaths& paths : home.list()) {
        const Result<CommitState> commits = CommitLog::read(paths.commits());
        if (commits && commits->end && commits->applied && !is_locked(paths))
            ended.push_back(paths.id());
    }
    return ended;
}

int run_rm(std::vector<std::string> vcs, bool all_ended) {
    int exit_code = 0;
    if (all_ended) {
        const Result<std::vector<std::string>> ended = ended_vcs();
        if (!ended) return report(ended.error(), 1);
        vcs.insert(vcs.end(), ended->begin(), ended->end());
    }
    for (const std::string& vc : vcs) {
        const Result<Found> found = find_vc(vc);
        if (!found) {
            exit_code = report(found.error(), 1);
            continue;
        }
        if (Status removed = remove_vc(found->paths); !removed) {
            exit_code = report(removed.error(), 1);
        }
    }
    return exit_code;
}

struct VcOptions {
    std::string vc;
    std::vector<std::string> vcs;
    std::string signal = "TERM";
    bool all = false;
    bool ended = false;
    bool json = false;
    bool follow = false;
    std::string to;
};

int run_migrate(const std::string& vc, const std::string& to) {
    const auto ask = [&]() -> Result<Json> {
        PPDSM_ASSIGN(const Found found, find_vc(vc));
        PPDSM_ASSIGN(const Home home, Home::open());
        return ask_local(daemon_socket(home.directory()),
                         {{"do", "migrate"}, {"vc", found.paths.id()}, {"to", to}});
    };
    const std::int64_t begun_us = monotonic_now_us();
    const Result<Json> moved = ask();
    if (!moved) return report(moved.error());
    fmt::print("{} runs at {} now ({:.1f} s)\n", vc, utf8_to_bytes(moved->value("peer", "")),
               static_cast<double>(monotonic_now_us() - begun_us) / 1e6);
    return 0;
}

}  // namespace

void add_vc_commands(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<VcOptions>();
    CLI::App* ps = app.add_subcommand("ps", "List virtual computers");
    ps->add_flag("--all,-a", options->all, "Ended ones too");
    ps->add_flag("--json", options->json, "For programs; all of them");
    ps->callback([options, &exit_code] { exit_code = run_ps(options->all, options->json); });

    CLI::App* logs = app.add_subcommand("logs", "Show a program's committed output");
    logs->add_option("VC", options->vc, "Id or name")->required();
    logs->add_flag("--follow,-f", options->follow, "Go on until it ends");
    logs->callback([options, &exit_code] { exit_code = run_logs(options->vc, options->follow); });

    CLI::App* kill =
        app.add_subcommand("kill", "Send a signal to a program; what it kills is not brought back");
    kill->add_option("VC", options->vc, "Id or name")->required();
    kill->add_option("--signal,-s", options->signal, "Name or number")->capture_default_str();
    kill->callback([options, &exit_code] { exit_code = run_kill(options->vc, options->signal); });

    CLI::App* wait = app.add_subcommand("wait", "Wait for a program's end; exits as it did");
    wait->add_option("VC", options->vc, "Id or name")->required();
    wait->callback([options, &exit_code] { exit_code = run_wait(options->vc); });

    CLI::App* migrate =
        app.add_subcommand("migrate", "Move a running program to another peer of the mesh");
    migrate->add_option("VC", options->vc, "Id or name")->required();
    migrate->add_option("--to", options->to, "The peer, by name or id")->required();
    migrate->callback([options, &exit_code] { exit_code = run_migrate(options->vc, options->to); });

    CLI::App* rm =
        app.add_subcommand("rm", "Forget ended virtual computers, with their checkpoints");
    CLI::Option* vcs = rm->add_option("VC", options->vcs, "Ids or names");
    CLI::Option* ended = rm->add_flag("--ended", options->ended, "All that have ended");
    rm->require_option(1, 2);
    vcs->excludes(ended);
    rm->callback([options, &exit_code] { exit_code = run_rm(options->vcs, options->ended); });
}

}  // namespace ppdsm
