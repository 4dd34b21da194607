#include "criu-glue/sandbox/tree_launch.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>

#include "criu-glue/sandbox/message_socket.h"
#include "criu-glue/sandbox/mount_tree.h"
#include "dsm/base/files.h"

namespace ppdsm {

namespace {

constexpr int kInitLinkFd = 3;

constexpr std::uint64_t kRootTreeNamespaces =
    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;

/// What a program may do inside its user namespace. Not kept: everything that reaches kernel
/// interfaces a program does not need (mounts, networks, modules, raw I/O).
constexpr std::array kKeptCapabilities = {
    CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,  CAP_FOWNER,      CAP_FSETID,
    CAP_KILL,  CAP_SETGID,       CAP_SETUID,           CAP_SETPCAP,     CAP_SETFCAP,
    CAP_MKNOD, CAP_SYS_CHROOT,   CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE, CAP_SYS_NICE,
};

Status drop_capabilities() {
    std::uint64_t kept = 0;
    for (const int capability : kKeptCapabilities) kept |= std::uint64_t{1} << capability;
    for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
        if ((kept >> capability & 1) != 0) continue;
        if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            return fail_errno("drop capability");
    }
    return {};
}

bool exits_well(pid_t child) {
    int status = 0;
    if (child < 0) return false;
    while (::waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return false;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Status write_map(pid_t pid, const char* file, const std::string& content) {
    PPDSM_ASSIGN(const OwnedFd fd,
                 open_file("/proc/" + std::to_string(pid) + "/" + file, O_WRONLY));
    return write_all(fd, as_bytes(content));
}

/// Of root's tree: every id inside is the same id outside, without its power.
Status map_ids(pid_t pid) {
    PPDSM_TRY(write_map(pid, "uid_map", "0 0 4294967295\n"));
    return write_map(pid, "gid_map", "0 0 4294967295\n");
}

/// Of root's tree only: an ordinary user is himself, in mounts and under a name that the warden has
/// made.
Status enter_own_namespaces(const SandboxSpec& spec) {
    if (::setresgid(spec.gid, spec.gid, spec.gid) != 0 ||
        ::setresuid(spec.uid, spec.uid, spec.uid) != 0) {
        return fail_errno("take the user's id");
    }
    PPDSM_TRY(enter_mounts(spec));
    if (::sethostname(spec.hostname.data(), spec.hostname.size()) != 0) {
        return fail_errno("set the host name");
    }
    return {};
}

Result<OwnedFd> open_terminal() {
    PPDSM_ASSIGN(OwnedFd master, open_file("/dev/ptmx", O_RDWR | O_NOCTTY));
    int unlock = 0;
    int number = 0;
    if (::ioctl(master.get(), TIOCSPTLCK, &unlock) != 0 ||
        ::ioctl(master.get(), TIOCGPTN, &number) != 0) {
        return fail_errno("make a terminal");
    }
    PPDSM_ASSIGN(const OwnedFd slave,
                 open_file("/dev/pts/" + std::to_string(number), O_RDWR | O_NOCTTY));
    for (int fd = 0; fd < 3; ++fd) ::dup2(slave.get(), fd);
    return master;
}

/// The child's side. Talks back over `link`: kStarted with the terminal, or kFailed.
Status become_init(const SandboxSpec& spec, const std::vector<OwnedFd>& stdio, MessageSocket& link,
                   bool privileged) {
    PPDSM_TRY(link.receive());  // The parent has written our id maps.
    PPDSM_TRY(privileged ? enter_own_namespaces(spec) : enter_shared_mounts(spec));
    ::setsid();
    WardenMessage started{WardenMessage::Type::kStarted, {}, {}, {}};
    if (spec.terminal) {
        PPDSM_ASSIGN(OwnedFd master, open_terminal());
        started.fds.push_back(std::move(master));
    } else {
        for (std::size_t i = 0; i < stdio.size(); ++i) ::dup2(stdio[i].get(), static_cast<int>(i));
    }
    PPDSM_TRY(drop_capabilities());
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("forbid new privileges");
    PPDSM_TRY(link.send(started));
    return {};
}

[[noreturn]] void run_init(const SandboxSpec& spec, const std::vector<OwnedFd>& stdio,
                           MessageSocket& link, bool privileged) {
    if (Status ready = become_init(spec, stdio, link, privileged); !ready) {
        (void)link.send({WardenMessage::Type::kFailed, {}, ready.error().message(), {}});
        _exit(125);
    }
    std::vector<char*> argv = {const_cast<char*>(kInitPath),
                               const_cast<char*>(spec.program.c_str())};
    for (const std::string& argument : spec.arguments)
        argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    std::vector<char*> environment;
    for (const std::string& entry : spec.environment)
        environment.push_back(const_cast<char*>(entry.c_str()));
    environment.push_back(nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
    // Init closes it when the program is forked, and so tells the warden.
    ::dup2(link.fd().get(), kInitLinkFd);
    ::close_range(kInitLinkFd + 1, ~0U, 0);
    ::execve(kInitPath, argv.data(), environment.data());
    _exit(125);
}

Status enter_cgroups(const SandboxSpec& spec, pid_t pid) {
    for (const std::string& cgroup : spec.tree_cgroups) {
        PPDSM_ASSIGN(const OwnedFd procs, open_file(cgroup + "/cgroup.procs", O_WRONLY));
        PPDSM_TRY(write_all(procs, as_bytes(std::to_string(pid))));
    }
    return {};
}

}  // namespace

Result<LaunchedTree> launch_tree(const SandboxSpec& spec, const std::vector<OwnedFd>& stdio,
                                 bool privileged) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        return fail_errno("make a socket for the sandbox");
    }
    MessageSocket ours{OwnedFd(pair[0])};
    MessageSocket theirs{OwnedFd(pair[1])};
    clone_args arguments{};
    arguments.flags = privileged ? kRootTreeNamespaces : CLONE_NEWPID;
    arguments.exit_signal = SIGCHLD;
    const auto child = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
    if (child < 0) return fail_errno("make the sandbox's namespaces");
    if (child == 0) run_init(spec, stdio, theirs, privileged);
    LaunchedTree tree;
    tree.init = child;
    const auto start = [&]() -> Status {
        if (privileged) PPDSM_TRY(map_ids(child));
        PPDSM_TRY(enter_cgroups(spec, child));
        PPDSM_TRY(ours.send({WardenMessage::Type::kStart, {}, {}, {}}));
        theirs = MessageSocket{OwnedFd()};
        PPDSM_ASSIGN(WardenMessage answer, ours.receive());
        if (answer.type == WardenMessage::Type::kFailed) {
            return fail(Code::kUnsupported, "the sandbox cannot start: " + answer.text);
        }
        if (!answer.fds.empty()) tree.terminal = std::move(answer.fds.front());
        (void)ours.receive();  // The end of the link: the program is forked.
        return {};
    };
    if (Status started = start(); !started) {
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        return fail(started.error());
    }
    return tree;
}

Status prepare_shared_restore(pid_t init) {
    PPDSM_ASSIGN(const OwnedFd name_space,
                 open_file("/proc/" + std::to_string(init) + "/ns/pid", O_RDONLY));
    const pid_t entering = ::fork();
    if (entering < 0) return fail_errno("fork for the sandbox's /proc");
    if (entering == 0) {
        // A pid namespace is entered by children only.
        if (::setns(name_space.get(), CLONE_NEWPID) != 0) _exit(1);
        const pid_t inside = ::fork();
        if (inside == 0) _exit(mount_tree_proc() ? 0 : 1);
        _exit(exits_well(inside) ? 0 : 1);
    }
    if (exits_well(entering)) return {};
    return fail(Code::kUnsupported, "cannot mount /proc for the tree that is restored");
}

}  // namespace ppdsm
