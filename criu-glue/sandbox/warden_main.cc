// ppdsm-warden: the process between an executor and one sandbox. It is init of an outer pid
// namespace (and owner of the private mounts and of the network namespace), in which the sandbox's
// tree and CRIU live; when the executor dies, it is killed, and the kernel kills everything inside
// with it: no orphan and no half-restored tree runs on. It makes the tree, dumps and restores it on
// request.
//
// usage: ppdsm-warden  (3: message socket, 4: the sandbox's description, 5: the file server's
// channel when the description has file roots)
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "criu-glue/sandbox/file_server.h"
#include "criu-glue/sandbox/message_socket.h"
#include "criu-glue/sandbox/mount_tree.h"
#include "criu-glue/sandbox/root_server.h"
#include "criu-glue/sandbox/warden.h"
#include "dsm/base/files.h"

namespace ppdsm {
namespace {

constexpr int kSocketFd = 3;
constexpr int kSpecFd = 4;
constexpr int kFilesFd = 5;
/// An ordinary user's tree shares these with the warden (see tree_launch.h).
constexpr int kSharedNamespaces = CLONE_NEWIPC | CLONE_NEWUTS;

Status raise_loopback() {
    const OwnedFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::snprintf(request.ifr_name, sizeof request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (!socket.valid() || ::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) {
        return fail_errno("raise the sandbox's loopback");
    }
    return {};
}

Status write_self(const char* path, const std::string& content) {
    PPDSM_ASSIGN(const OwnedFd fd, open_file(path, O_WRONLY));
    return write_all(fd, as_bytes(content));
}

/// A user namespace in which an ordinary user has every capability, so that he may make the others;
/// his id stays what it is, and with it what the program sees of itself.
Status become_namespace_owner() {
    const std::string uid = std::to_string(::geteuid());
    const std::string gid = std::to_string(::getegid());
    if (::unshare(CLONE_NEWUSER) != 0) return fail_errno("make a user namespace");
    PPDSM_TRY(write_self("/proc/self/setgroups", "deny"));
    PPDSM_TRY(write_self("/proc/self/uid_map", uid + " " + uid + " 1\n"));
    return write_self("/proc/self/gid_map", gid + " " + gid + " 1\n");
}

constexpr const char* kHomeRun = "/run/ppdsm/home";  ///< What home has at /run.

/// CRIU keeps its knowledge of the kernel in /run, and images live there in memory until they are
/// stored. Home's own is kept at kHomeRun.
Status cover_run() {
    const OwnedFd home(
        ::open_tree(AT_FDCWD, "/run", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
    if (!home.valid()) return fail_errno("hold /run");
    // Huge pages make writing images cheaper; not every kernel has them for a tmpfs.
    constexpr const char* kOptions = "mode=0755,size=95%,huge=within_size";
    constexpr const char* kPlainOptions = "mode=0755,size=95%";
    constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV;
    if (::mount("tmpfs", "/run", "tmpfs", kFlags, kOptions) != 0 &&
        ::mount("tmpfs", "/run", "tmpfs", kFlags, kPlainOptions) != 0) {
        return fail_errno("mount /run");
    }
    PPDSM_TRY(make_directories(kHomeRun));
    if (::move_mount(home.get(), "", AT_FDCWD, kHomeRun, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
        return fail_errno("keep home's /run");
    }
    return {};
}

Status make_mounts_private() {
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        return fail_errno("make the mounts private");
    }
    if (::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
        return fail_errno("mount /proc");
    }
    return cover_run();
}

/// Where the spec's paths of home lie now.
void follow_run(SandboxSpec& spec) {
    const std::string files = std::string(kFilesMount) + "/";
    const auto follow = [&](std::string& path) {
        if (!spec.file_roots.empty() && path.starts_with(files)) return;
        if (path == "/run" || path.starts_with("/run/")) path.replace(0, 4, kHomeRun);
    };
    follow(spec.skeleton);
    follow(spec.refusals_log);
    for (SandboxMount& mount : spec.mounts) {
        follow(mount.source);
        follow(mount.upper);
        follow(mount.work);
    }
}

RootSources root_sources(const SandboxSpec& spec) {
    RootSources sources{spec.skeleton, spec.private_paths, {}};
    // What this host has is not home's.
    if (!spec.file_roots.empty()) sources.home.reset();
    for (const SandboxMount& mount : spec.mounts) {
        if (mount.kind == SandboxMount::Kind::kUnion) {
            sources.unions.emplace_back(mount.target, mount.source);
        }
    }
    return sources;
}

/// Mounts the sandbox's root and starts its server, whose pid is returned. 0: this machine has no
/// FUSE for us, and the bare skeleton serves.
Result<pid_t> make_root(const SandboxSpec& spec, MessageSocket& executor) {
    Result<OwnedFd> device = mount_root();
    if (!device) {
        PPDSM_TRY(bind_skeleton(spec));
        return 0;
    }
    PPDSM_ASSIGN(RefusalLog log, RefusalLog::open(spec.refusals_log));
    const pid_t server = ::fork();
    if (server < 0) return fail_errno("fork the root's server");
    if (server == 0) {
        executor = MessageSocket{OwnedFd()};
        serve_root(*std::move(device), RootView(root_sources(spec)), std::move(log));
    }
    return server;
}

/// Mounts the owner's files and starts their server, whose pid is returned. 0: home is here.
Result<pid_t> make_files(const SandboxSpec& spec, MessageSocket& executor) {
    if (spec.file_roots.empty()) return 0;
    OwnedFd channel(kFilesFd);
    ::fcntl(channel.get(), F_SETFD, FD_CLOEXEC);
    Result<FileMount> mounted = mount_files(kFilesMount);
    if (!mounted) return fail(mounted.error());
    PPDSM_ASSIGN(RefusalLog log, RefusalLog::open(spec.refusals_log));
    const pid_t server = ::fork();
    if (server < 0) return fail_errno("fork the files' server");
    if (server == 0) {
        executor = MessageSocket{OwnedFd()};
        serve_files(*std::move(mounted), std::move(channel), spec.file_roots, std::move(log));
    }
    return server;
}

/// The pid namespace's init: everything of the sandbox dies with it.
[[noreturn]] void run_warden(SandboxSpec spec, MessageSocket executor, bool privileged) {
    const auto prepare = [&]() -> Result<SandboxServers> {
        PPDSM_TRY(make_mounts_private());
        follow_run(spec);
        if (!spec.host_network) PPDSM_TRY(raise_loopback());
        SandboxServers made;
        PPDSM_ASSIGN(made.files, make_files(spec, executor));
        PPDSM_ASSIGN(made.root, make_root(spec, executor));
        PPDSM_TRY(prepare_mounts(spec, privileged));
        return made;
    };
    const Result<SandboxServers> servers = prepare();
    if (!servers) {
        (void)executor.send({WardenMessage::Type::kFailed, {}, servers.error().message(), {}});
        _exit(125);
    }
    Warden warden(std::move(spec), std::move(executor), privileged, *servers);
    const Status served = warden.serve();
    // Without executor, root or files: who is there sees that we end.
    const bool alone = !served && served.error().code() == Code::kUnavailable;
    if (!served && !alone)
        std::fprintf(stderr, "ppdsm-warden: %s\n", served.error().message().c_str());
    _exit(served ? 0 : 125);
}

/// Dies with the process that `parent` holds, which may have died before the request took effect.
void die_with(const OwnedFd& parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pollfd wait{parent.get(), POLLIN, 0};
    if (::poll(&wait, 1, 0) != 0) _exit(125);
}

OwnedFd hold_process(pid_t pid) {
    return OwnedFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

Status enter_namespaces(const SandboxSpec& spec, bool privileged) {
    if (!privileged) PPDSM_TRY(become_namespace_owner());
    const int network = spec.host_network ? 0 : CLONE_NEWNET;
    const int shared = privileged ? 0 : kSharedNamespaces;
    if (::unshare(CLONE_NEWNS | CLONE_NEWPID | network | shared) != 0) {
        return fail_errno("make the warden's namespaces");
    }
    if (!privileged && ::sethostname(spec.hostname.data(), spec.hostname.size()) != 0) {
        return fail_errno("set the host name");
    }
    return {};
}

/// Forks into the new pid namespace, as a child of our parent: the executor reaps it itself, and
/// its end means that everything in the namespace is gone. Returns 0 in the child, else its pidfd.
Result<OwnedFd> fork_sibling() {
    clone_args arguments{};
    int pidfd = -1;
    arguments.flags = CLONE_PARENT | CLONE_PIDFD;
    arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
    const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child < 0) return fail_errno("fork the warden");
    return OwnedFd(child == 0 ? -1 : pidfd);
}

int run(const OwnedFd& parent) {
    MessageSocket executor{OwnedFd(kSocketFd)};
    ::fcntl(kSocketFd, F_SETFD, FD_CLOEXEC);
    const bool privileged = ::geteuid() == 0;
    const auto begin = [&]() -> Result<SandboxSpec> {
        PPDSM_ASSIGN(const std::string text, read_text("/proc/self/fd/" + std::to_string(kSpecFd)));
        PPDSM_ASSIGN(SandboxSpec spec, decode_spec(text));
        PPDSM_TRY(enter_namespaces(spec, privileged));
        return spec;
    };
    Result<SandboxSpec> spec = begin();
    if (!spec) {
        (void)executor.send({WardenMessage::Type::kFailed, {}, spec.error().message(), {}});
        return 125;
    }
    ::close(kSpecFd);
    Result<OwnedFd> inner = fork_sibling();
    if (!inner || inner->valid()) {
        WardenMessage first{WardenMessage::Type::kReady, {}, {}, {}};
        if (inner) {
            first.fds.push_back(*std::move(inner));
        } else {
            first = {WardenMessage::Type::kFailed, {}, inner.error().message(), {}};
        }
        return executor.send(first) ? 0 : 125;
    }
    die_with(parent);
    run_warden(*std::move(spec), std::move(executor), privileged);
}

}  // namespace
}  // namespace ppdsm

int main() {
    const ppdsm::OwnedFd executor = ppdsm::hold_process(getppid());
    ppdsm::die_with(executor);
    return ppdsm::run(executor);
}
