// `ppdsm exec` and `ppdsm resume`: run a program on a peer hosted by this very process.
#include "cli/exec.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/event_file.h"
#include "cli/front_end.h"
#include "cli/mesh_exec.h"
#include "dsm/base/wall_clock.h"
#include "runtime/peer/control.h"
#include "runtime/peer/executor.h"
#include "runtime/peer/libexec.h"

extern char** environ;

namespace ppdsm {

namespace {

namespace fs = std::filesystem;

constexpr int kCannotExecute = 126;
constexpr int kNotFound = 127;

struct ExecOptions {
    std::string checkpoint_every = "auto";
    std::string output;
    std::string files = "end";
    std::string recover = "sigkill";
    std::vector<std::string> expose;
    std::vector<std::string> environment;
    std::string memory;
    std::string timeout;
    std::string name;
    std::string net = "none";
    std::string events;
    std::string resume;
    double cpus = 0;
    std::uint32_t keep = 3;
    bool detach = false;
    bool require_checkpoints = false;
    bool statistics = false;
    std::string on;
    std::uint32_t replicas = 2;
    bool local = false;
    std::vector<std::string> program;
};

struct Program {
    std::string path;
    int problem = 0;  ///< 126 or 127 when it cannot be run.
};

/// As execvp finds it, but before anything is set up, for a clear message.
Program find_program(const std::string& name) {
    const auto judge = [](const std::string& path) -> int {
        struct stat info{};
        if (::stat(path.c_str(), &info) != 0) return kNotFound;
        return S_ISDIR(info.st_mode) || ::access(path.c_str(), X_OK) != 0 ? kCannotExecute : 0;
    };
    if (name.find('/') != std::string::npos) {
        const std::string path = fs::absolute(name).lexically_normal();
        return {path, judge(path)};
    }
    const char* variable = std::getenv("PATH");
    std::string rest = variable == nullptr ? "/usr/local/bin:/usr/bin:/bin" : variable;
    Program best{name, kNotFound};
    while (!rest.empty() && best.problem != 0) {
        const std::size_t colon = rest.find(':');
        const std::string directory = rest.substr(0, colon);
        rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
        const std::string path = fs::absolute(directory.empty() ? "." : directory) / name;
        const int problem = judge(path);
        if (problem != kNotFound) best = {path, problem};
    }
    return best;
}

std::vector<std::string> build_environment(const std::vector<std::string>& additions) {
    std::vector<std::string> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
    for (const std::string& addition : additions) {
        const std::string key = addition.substr(0, addition.find('=') + 1);
        std::erase_if(environment,
                      [&](const std::string& entry) { return entry.starts_with(key); });
        environment.push_back(addition);
    }
    return environment;
}

/// Program, arguments and place; what concerns their running is in fill_policy.
Result<VcRecord> describe(const ExecOptions& options, const std::string& program) {
    VcRecord record;
    record.program = program;
    record.arguments = options.program;
    record.name = options.name.empty() ? fs::path(program).filename().string() : options.name;
    for (const std::string& entry : options.environment) {
        if (entry.find('=') == std::string::npos)
            return fail(Code::kInvalid, "--env " + entry + ": expected NAME=VALUE");
    }
    record.environment = build_environment(options.environment);
    std::error_code error;
    record.working_directory = fs::current_path(error);
    if (error) return fail(Error::from_errno("find the working directory", error.value()));
    for (const std::string& text : options.expose) {
        PPDSM_ASSIGN(Exposure exposure, parse_exposure(text));
        record.exposures.push_back(std::move(exposure));
    }
    record.uid = ::getuid();
    record.gid = ::getgid();
    record.created_unix_ms = unix_now_ms();
    record.detached = options.detach;
    record.terminal =
        !options.detach && ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
    return record;
}

Status fill_policy(const ExecOptions& options, VcRecord& record) {
    if (options.checkpoint_every == "off") {
        record.checkpoint_every_ms = -1;
    } else if (options.checkpoint_every != "auto") {
        PPDSM_ASSIGN(record.checkpoint_every_ms, parse_duration(options.checkpoint_every));
        if (record.checkpoint_every_ms < 1)
            return fail(Code::kInvalid, "--checkpoint-every must be at least 1ms");
    }
    const bool live = options.output.empty() ? record.terminal || ::isatty(STDOUT_FILENO) != 0
                                             : options.output == "live";
    record.output = live ? OutputMode::kLive : OutputMode::kCommitted;
    record.files = options.files == "commit" ? FilesMode::kCommit : FilesMode::kEnd;
    record.recover = options.recover != "never";
    record.require_checkpoints = options.require_checkpoints;
    record.host_network = options.net == "host";
    record.cpus = options.cpus;
    record.keep_generations = options.keep;
    record.on = options.on;
    record.replicas = options.replicas;
    if (!options.memory.empty()) {
        PPDSM_ASSIGN(record.memory_bytes, parse_size(options.memory));
    }
    if (!options.timeout.empty()) {
        PPDSM_ASSIGN(record.timeout_ms, parse_duration(options.timeout));
    }
    return check_working_directory(record);
}

/// The run goes on in a session of its own, which closes the descriptor it gets here when it holds
/// the VC. The caller's process returns only then, and gets none.
Result<OwnedFd> become_detached(const VcPaths& paths) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("detach");
    const OwnedFd begun(ends[0]);
    OwnedFd ready(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return fail_errno("detach");
    if (child > 0) {
        ready.reset();
        char word = 0;
        if (::read(begun.get(), &word, 1) == 1) return OwnedFd();
        return fail(Code::kUnavailable, "it could not be started; " +
                                            (paths.directory / "executor.log").string() +
                                            " says why");
    }
    ::setsid();
    const OwnedFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const OwnedFd log(::open((paths.directory / "executor.log").c_str(),
                             O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    ::dup2(null.get(), STDIN_FILENO);
    ::dup2(null.get(), STDOUT_FILENO);
    ::dup2(log.get(), STDERR_FILENO);
    return ready;
}

/// Hosts the peer of one VC until its run has ended.
Result<int> host(const Home& home, const VcPaths& paths, const VcRecord& record,
                 const ExecOptions& options, OwnedFd ready) {
    Executor::Setup setup{paths, record, {}, {}, {}};
    PPDSM_ASSIGN(setup.libexec, find_libexec());
    // Its sandbox and its checkpoints are of the other kind, and its files the other's.
    if (record.uid != ::getuid()) {
        return fail(Code::kInvalid, paths.id() + " was started by user " +
                                        std::to_string(record.uid) + "; resume it as that user");
    }
    setup.find_criu(home.cache());
    if (record.require_checkpoints && !setup.criu_problem.empty()) {
        return fail(Code::kUnsupported, setup.criu_problem);
    }
    Loop loop;
    PPDSM_ASSIGN(const std::unique_ptr<Executor> executor,
                 Executor::open(loop, home, std::move(setup)));
    PPDSM_ASSIGN(const std::unique_ptr<ControlServer> control,
                 ControlServer::listen(loop, *executor, paths));
    FrontEnd front_end(loop, *executor, paths, !record.detached, options.statistics);
    executor->add_observer(front_end);
    std::unique_ptr<EventFile> events;
    if (!options.events.empty()) {
        PPDSM_ASSIGN(events, EventFile::open(options.events, paths.id()));
        executor->add_observer(*events);
    }
    PPDSM_TRY(front_end.continue_input());
    if (ready.valid()) (void)!::write(ready.get(), "!", 1);
    ready.reset();
    front_end.start();
    loop.post([&] { executor->run(); });
    loop.run();
    return front_end.exit_code();
}

/// Here, or with --detach in a process of its own, about which the caller prints `announcement`.
int host_as_asked(const Home& home, const VcPaths& paths, const VcRecord& record,
                  const ExecOptions& options, const std::string& announcement) {
    OwnedFd ready;
    if (options.detach) {
        Result<OwnedFd> detached = become_detached(paths);
        if (!detached) return report(detached.error());
        ready = *std::move(detached);
        if (!ready.valid()) {
            fmt::print("{}", announcement);
            return 0;
        }
    }
    const Result<int> code = host(home, paths, record, options, std::move(ready));
    return code ? *code : report(code.error());
}

int run_exec(const ExecOptions& options) {
    const Program program = find_program(options.program.front());
    if (program.problem != 0) {
        return report(
            Error(Code::kNotFound,
                  program.path + (program.problem == kNotFound ? ": no such program"
                                                               : ": is not an executable program")),
            program.problem);
    }
    const auto prepare = [&]() -> Result<std::pair<Home, VcRecord>> {
        PPDSM_ASSIGN(VcRecord record, describe(options, program.path));
        PPDSM_TRY(fill_policy(options, record));
        PPDSM_ASSIGN(Home home, Home::open());
        return std::pair(std::move(home), std::move(record));
    };
    auto prepared = prepare();
    if (!prepared) return report(prepared.error());
    auto& [home, record] = *prepared;
    if (!options.local && is_daemon_there(home)) {
        const Result<int> code =
            exec_on_mesh(home, record, {options.events, options.statistics, options.detach});
        return code ? *code : report(code.error());
    }
    if (!options.on.empty()) {
        return report(Error(Code::kUnavailable, "--on " + options.on +
                                                    ": no daemon runs here that could reach it; "
                                                    "`ppdsm peer start` starts one"));
    }
    Result<VcPaths> paths = home.create_vc();
    if (!paths) return report(paths.error());
    record.id = paths->id();
    if (Status written = write_record(*paths, record); !written) return report(written.error());
    if (record.host_network) {
        report(Error(Code::kInvalid,
                     "--net host: what the program sends cannot be taken back, so its effects may "
                     "repeat after a death"));
    }
    return host_as_asked(home, *paths, record, options, record.id + "\n");
}

int run_resume(const ExecOptions& options) {
    const Result<Home> home = Home::open();
    if (!home) return report(home.error());
    const Result<VcPaths> paths = home->find(options.resume);
    if (!paths) return report(paths.error());
    std::error_code absent;
    if (fs::exists(paths->placement(), absent)) {
        const Result<int> code =
            attach_to_mesh(*home, *paths, {options.events, options.statistics, options.detach});
        return code ? *code : report(code.error());
    }
    Result<VcRecord> record = read_record(*paths);
    if (!record) return report(record.error());
    record->detached = options.detach;
    return host_as_asked(*home, *paths, *record, options, "");
}

int run_attach(const ExecOptions& options) {
    const Result<Home> home = Home::open();
    if (!home) return report(home.error());
    const Result<VcPaths> paths = home->find(options.resume);
    if (!paths) return report(paths.error());
    const Result<int> code = attach_to_mesh(*home, *paths, {options.events, options.statistics});
    return code ? *code : report(code.error());
}

void add_exec_options(CLI::App& command, ExecOptions& options) {
    command
        .add_option("--checkpoint-every", options.checkpoint_every,
                    "auto (10s, stretched to 100 times the last pause), off, or a duration")
        ->capture_default_str();
    command
        .add_option("--output", options.output,
                    "Show output when committed (default into pipes and files) or live (default on "
                    "a terminal)")
        ->check(CLI::IsMember({"committed", "live"}));
    command.add_option("--files", options.files, "Write files home at the end, or at every commit")
        ->check(CLI::IsMember({"end", "commit"}))
        ->capture_default_str();
    command.add_option("--recover", options.recover, "Which deaths of the program are undone")
        ->check(CLI::IsMember({"sigkill", "never"}))
        ->capture_default_str();
    command
        .add_option("--expose", options.expose,
                    "PATH[:ro|rw] that the program may see, beyond its working directory")
        ->take_all()
        ->expected(1)
        ->type_name("PATH[:ro|rw]");
    command.add_option("--env", options.environment, "NAME=VALUE for the program")
        ->expected(1)
        ->take_all();
    command.add_option("--memory", options.memory, "Memory limit, e.g. 2G");
    command.add_option("--cpus", options.cpus, "CPU limit, e.g. 1.5");
    command.add_option("--timeout", options.timeout, "End the run after this time");
    command.add_option("--name", options.name, "A name for ps and other commands");
    command.add_option("--net", options.net, "none, or host (not exactly-once any more)")
        ->check(CLI::IsMember({"none", "host"}))
        ->capture_default_str();
    command.add_option("--keep", options.keep, "Generations to keep")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    command.add_option("--on", options.on, "The peer that is to run it, by name or id");
    command.add_option("--replicas", options.replicas, "Other peers that keep each generation")
        ->check(CLI::Range(0, 16))
        ->capture_default_str();
    command.add_flag("--local", options.local, "Run it by this command itself, not on the mesh");
    command.add_option("--resume", options.resume, "As `ppdsm resume`: go on with this VC");
    command.add_flag("--require-checkpoints", options.require_checkpoints,
                     "Fail rather than run unprotected");
}

void add_watch_options(CLI::App& command, ExecOptions& options) {
    command.add_option("--events", options.events,
                       "Append what happens to this file, one JSON object a line");
    command.add_flag("--stats", options.statistics, "A summary at the end");
}

void add_host_options(CLI::App& command, ExecOptions& options) {
    add_watch_options(command, options);
    command.add_flag("--detach", options.detach, "Print the id and let it run in the background");
}

}  // namespace

int resume_attached(const Home& home, const VcPaths& paths, VcRecord record) {
    record.detached = false;
    return host_as_asked(home, paths, record, {}, "");
}

std::vector<std::string> split_off_program(const CLI::App& app,
                                           std::vector<std::string>& arguments) {
    if (arguments.empty() || arguments.front() != "exec") return {};
    const CLI::App* exec = app.get_subcommand("exec");
    std::size_t at = 1;
    while (at < arguments.size() && arguments[at].starts_with("-") && arguments[at] != "--") {
        const bool has_value = arguments[at].find('=') != std::string::npos;
        const CLI::Option* option = exec->get_option_no_throw(arguments[at]);
        const bool takes_next =
            option != nullptr && !has_value && option->get_items_expected_min() > 0;
        at += takes_next ? 2 : 1;
    }
    at = std::min(at, arguments.size());
    const std::size_t program = at < arguments.size() && arguments[at] == "--" ? at + 1 : at;
    std::vector<std::string> split(arguments.begin() + static_cast<std::ptrdiff_t>(program),
                                   arguments.end());
    arguments.resize(at);
    return split;
}

void add_exec_commands(CLI::App& app, const std::vector<std::string>& program, int& exit_code) {
    auto options = std::make_shared<ExecOptions>();
    CLI::App* exec = app.add_subcommand(
        "exec", "Run a program that survives kill -9: ppdsm exec [OPTIONS] [--] PROGRAM [ARG...]");
    add_exec_options(*exec, *options);
    add_host_options(*exec, *options);
    exec->callback([options, &program, &exit_code] {
        options->program = program;
        if (!options->resume.empty()) {
            exit_code = run_resume(*options);
            return;
        }
        if (options->program.empty()) {
            exit_code = report(Error(
                Code::kInvalid, "exec: which program? ppdsm exec [options] [--] PROGRAM [ARG...]"));
            return;
        }
        exit_code = run_exec(*options);
    });
    auto resumed = std::make_shared<ExecOptions>();
    CLI::App* resume =
        app.add_subcommand("resume", "Go on with a virtual computer whose executor died");
    resume->add_option("VC", resumed->resume, "Id or name")->required();
    add_host_options(*resume, *resumed);
    resume->callback([resumed, &exit_code] { exit_code = run_resume(*resumed); });
    auto attached = std::make_shared<ExecOptions>();
    CLI::App* attach = app.add_subcommand("attach", "Watch a run of the mesh, and feed its stdin");
    attach->add_option("VC", attached->resume, "Id or name")->required();
    add_watch_options(*attach, *attached);
    attach->callback([attached, &exit_code] { exit_code = run_attach(*attached); });
}

}  // namespace ppdsm
