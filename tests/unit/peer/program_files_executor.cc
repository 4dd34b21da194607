// program_files_executor VC_DIRECTORY PLAN LIBEXEC KILL_AFTER UID HIDDEN...: a worker's executor,
// for the tests: runs the VC whose vc.json is there, in a mount namespace in which the HIDDEN
// directories are empty. PLAN: file with the view's plan; the file server's channel of each
// incarnation goes to whoever holds the other end of descriptor 3. "-": home is here. KILL_AFTER:
// kills the program's root process when so many generations are committed; 0: does not. Prints one
// JSON object.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/base/files.h"
#include "dsm/base/wall_clock.h"
#include "runtime/peer/executor.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

struct Watch : RunObserver {
    Loop& loop;
    Executor& executor;
    std::uint64_t kill_after;
    Outcome outcome;
    std::uint64_t restored = 0;
    std::string checkpoint_failure;

    Watch(Loop& loop_in, Executor& executor_in, std::uint64_t kill_after_in)
        : loop(loop_in), executor(executor_in), kill_after(kill_after_in) {}
    void on_committed(const GenerationRecord& record) override {
        if (kill_after == 0 || record.generation < kill_after) return;
        kill_after = 0;
        ::kill(executor.status().at("root_pid").get<pid_t>(), SIGKILL);
    }
    void on_checkpoint_failed(const Error& reason, bool /*protected_now*/) override {
        checkpoint_failure = reason.message();
    }
    void on_restored(std::uint64_t generation) override { restored += generation > 0 ? 1 : 0; }
    void on_finished(const Outcome& ended) override {
        outcome = ended;
        loop.stop();
    }
};

/// What lies at home is not on this peer.
Status hide(const std::vector<std::string>& hidden) {
    if (hidden.empty()) return {};
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        return fail_errno("make a mount namespace");
    }
    for (const std::string& directory : hidden) {
        if (::mount("none", directory.c_str(), "tmpfs", 0, "mode=0755") != 0) {
            return fail_errno("hide " + directory);
        }
    }
    return {};
}

/// As most systems have it; the node must be made before its user is another.
Status open_fuse_to_all(const fs::path& node) {
    if (::mknod(node.c_str(), S_IFCHR | 0666, makedev(10, 229)) != 0 ||
        ::chmod(node.c_str(), 0666) != 0 ||
        ::mount(node.c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr) != 0) {
        return fail_errno("open /dev/fuse to all");
    }
    return {};
}

Status become(std::uint32_t uid) {
    if (uid == 0) return {};
    if (::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0) {
        return fail_errno("become an ordinary user");
    }
    return {};
}

/// A fresh channel for an incarnation, whose other end is the daemon's.
Result<OwnedFd> open_channel(MessageSocket& daemon) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        return fail_errno("make a channel");
    }
    WardenMessage message{WardenMessage::Type::kStart, {}, {}, {}};
    message.fds.emplace_back(pair[0]);
    OwnedFd servers(pair[1]);
    PPDSM_TRY(daemon.send(message));
    return servers;
}

std::string all_output(const OutputLog& log) {
    std::string text;
    for (std::uint64_t at = 0; at < log.size_bytes();) {
        const auto piece = log.read(at, log.size_bytes());
        if (!piece || piece->next_bytes == at) break;
        text += as_text(piece->data);
        at = piece->next_bytes;
    }
    return text;
}

Status run(const std::vector<std::string>& arguments) {
    Executor::Setup setup;
    setup.paths.directory = arguments.at(0);
    PPDSM_ASSIGN(setup.record, read_record(setup.paths));
    setup.libexec = arguments.at(2);
    PPDSM_TRY(hide({arguments.begin() + 5, arguments.end()}));
    // What the program wrote is applied there: a directory of this peer's own.
    PPDSM_TRY(make_directories(setup.record.working_directory));
    const auto uid = static_cast<std::uint32_t>(std::stoul(arguments.at(4)));
    if (uid != 0) {
        if (::chown(setup.record.working_directory.c_str(), uid, uid) != 0) {
            return fail_errno("chown");
        }
        PPDSM_TRY(open_fuse_to_all(fs::path(arguments.back()) / "fuse"));
    }
    PPDSM_TRY(become(uid));
    PPDSM_ASSIGN(const Home home, Home::open());
    Result<CriuInstallation> criu = locate_criu(home.cache());
    if (criu) setup.criu = *criu;
    if (!criu) setup.criu_problem = criu.error().message();
    MessageSocket daemon{OwnedFd(::fcntl(3, F_DUPFD_CLOEXEC, 3))};
    ::close(3);
    if (arguments.at(1) != "-") {
        PPDSM_ASSIGN(const std::string text, read_text(arguments.at(1)));
        PPDSM_ASSIGN(const ViewPlan plan, decode_plan(text));
        setup.remote_files = {plan, [&daemon] { return open_channel(daemon); }};
    }
    Loop loop;
    PPDSM_ASSIGN(auto executor, Executor::open(loop, home, setup));
    Watch watch(loop, *executor, std::stoul(arguments.at(3)));
    executor->add_observer(watch);
    const std::int64_t begun_us = monotonic_now_us();
    executor->run();
    executor->end_input();
    loop.run();
    nlohmann::json result = {{"exit_code", watch.outcome.exit_code},
                             {"failure", watch.outcome.failure},
                             {"restored", watch.restored},
                             {"checkpoint_failure", watch.checkpoint_failure},
                             {"output", bytes_to_utf8(all_output(executor->output()))},
                             {"not_exposed", watch.outcome.refusals.not_exposed},
                             {"unfetched", watch.outcome.refusals.unfetched},
                             {"took_us", monotonic_now_us() - begun_us}};
    std::printf("%s\n", result.dump().c_str());
    return {};
}

}  // namespace
}  // namespace ppdsm

int main(int argc, char** argv) {
    if (argc < 6) return 2;
    const ppdsm::Status done = ppdsm::run({argv + 1, argv + argc});
    if (done) return 0;
    std::fprintf(stderr, "program_files_executor: %s\n", done.error().message().c_str());
    return 1;
}
