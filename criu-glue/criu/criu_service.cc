#include "criu-glue/criu/criu_service.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "criu_rpc.pb-c.h"
#include "dsm/base/files.h"

namespace ppdsm {

namespace {

constexpr std::uint32_t kGhostLimitBytes =
    0xFFFF'FFFF;              // A deleted file as large as CRIU can take.
constexpr int kLogLevel = 2;  // Errors and warnings: what explain() reads. More costs pause.
constexpr int kIgnoreCgroups = 0;
constexpr int kSkipNetworkLock = 3;
constexpr int kServiceFd = 3;
constexpr int kLookMs = 200;
constexpr int kDeadTreeMs = 1000;
constexpr std::size_t kMaxResponseBytes = 64 << 10;

struct Response {
    PpdsmCriu__RequestType type{};
    bool success = false;
    pid_t pid = 0;
    CriuEvent event;
    std::string message;
};

/// So that CRIU keeps our capabilities although its user is not root. Without CAP_SETUID: with it
/// CRIU makes itself root first, whom the user namespace of an ordinary user does not know.
bool keep_capabilities() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0) return false;
    for (__user_cap_data_struct& set : sets) set.inheritable = set.permitted;
    sets[CAP_TO_INDEX(CAP_SETUID)].inheritable &= ~CAP_TO_MASK(CAP_SETUID);
    if (::syscall(SYS_capset, &header, sets.data()) != 0) return false;
    for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
        const __user_cap_data_struct& set = sets[CAP_TO_INDEX(capability)];
        if ((set.inheritable & CAP_TO_MASK(capability)) == 0) continue;
        if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0) return false;
    }
    return true;
}

/// Runs in the forked child only: descriptors kept are those CRIU is told about.
[[noreturn]] void execute_criu(const CriuOptions& options, int socket) {
    for (const std::string& cgroup : options.cgroups) {
        const int procs = ::open((cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
        if (procs < 0 || ::write(procs, "0", 1) != 1) _exit(121);
        ::close(procs);
    }
    const auto keep = [](int fd) { ::fcntl(fd, F_SETFD, 0); };
    keep(options.images_fd);
    for (const auto& [key, fd] : options.inherit_fds) keep(fd);
    ::dup2(socket, kServiceFd);
    // The warden waits with SIGCHLD blocked; CRIU must hear of its children's deaths.
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
    if (null > kServiceFd) ::close(null);
    // CRIU's knowledge of the kernel lies in the warden's /run, where root's CRIU looks by itself.
    if (options.unprivileged &&
        (!keep_capabilities() || ::setenv("XDG_RUNTIME_DIR", "/run", 1) != 0)) {
        _exit(122);
    }
    std::vector<char*> argv;
    for (const std::string& argument : options.command)
        argv.push_back(const_cast<char*>(argument.c_str()));
    const std::string fd_text = std::to_string(kServiceFd);
    argv.push_back(const_cast<char*>("swrk"));
    argv.push_back(const_cast<char*>(fd_text.c_str()));
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    _exit(127);
}

Result<Response> receive(const OwnedFd& socket) {
    std::array<std::uint8_t, kMaxResponseBytes> buffer{};
    iovec part{buffer.data(), buffer.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    ssize_t got = 0;
    while ((got = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC)) < 0) {
        if (errno != EINTR) return fail_errno("receive from CRIU");
    }
    if (got == 0) return fail(Code::kUnavailable, "CRIU ended without an answer");
    PpdsmCriu__Response* unpacked =
        ppdsm_criu__response__unpack(nullptr, static_cast<std::size_t>(got), buffer.data());
    if (unpacked == nullptr) return fail(Code::kCorrupt, "answer from CRIU cannot be read");
    Response response;
    response.type = unpacked->type;
    response.success = unpacked->success != 0;
    if (unpacked->restore != nullptr) response.pid = unpacked->restore->pid;
    if (unpacked->notify != nullptr && unpacked->notify->script != nullptr) {
        response.event.name = unpacked->notify->script;
        if (unpacked->notify->has_pid != 0) response.event.tree = unpacked->notify->pid;
    }
    if (unpacked->cr_errmsg != nullptr) response.message = unpacked->cr_errmsg;
    ppdsm_criu__response__free_unpacked(unpacked, nullptr);
    const cmsghdr* rights = CMSG_FIRSTHDR(&header);
    if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
        response.event.fd.reset(fd);
    }
    return response;
}

Status send(const OwnedFd& socket, const PpdsmCriu__Request& request) {
    Bytes packed(ppdsm_criu__request__get_packed_size(&request));
    ppdsm_criu__request__pack(&request, packed.data());
    while (::send(socket.get(), packed.data(), packed.size(), MSG_NOSIGNAL) < 0) {
        if (errno != EINTR) return fail_errno("send to CRIU");
    }
    return {};
}

/// Also while its namespace's last processes are not reaped: those that CRIU traces wait for CRIU.
bool is_dying(pid_t pid) {
    char target = 0;
    const std::string link = "/proc/" + std::to_string(pid) + "/exe";
    return ::readlink(link.c_str(), &target, 1) < 0 && (errno == ENOENT || errno == ESRCH);
}

/// Until CRIU speaks or ends. A CRIU that hangs over a tree that has died under its hands is
/// killed.
void await_word(const OwnedFd& socket, pid_t tree, pid_t criu) {
    pollfd wait{socket.get(), POLLIN, 0};
    while (::poll(&wait, 1, tree > 0 ? kLookMs : -1) <= 0) {
        if (tree <= 0 || !is_dying(tree)) continue;
        if (::poll(&wait, 1, kDeadTreeMs) == 0) ::kill(criu, SIGKILL);
        return;
    }
}

/// Answers notifications until the reply to the request itself comes. `tree`: what is dumped.
Result<Response> converse(const OwnedFd& socket, pid_t tree, pid_t criu, const CriuNotify& notify) {
    for (;;) {
        await_word(socket, tree, criu);
        PPDSM_ASSIGN(Response response, receive(socket));
        if (response.type != PPDSM_CRIU__REQUEST_TYPE__NOTIFY) return response;
        const bool go_on = notify(std::move(response.event));
        PpdsmCriu__Request answer = PPDSM_CRIU__REQUEST__INIT;
        answer.type = PPDSM_CRIU__REQUEST_TYPE__NOTIFY;
        answer.has_notify_success = 1;
        answer.notify_success = go_on ? 1 : 0;
        PPDSM_TRY(send(socket, answer));
    }
}

/// The request's fields point into `options`, which outlives the call.
class OptionsMessage {
public:
    explicit OptionsMessage(const CriuOptions& options) {
        set(message_.has_log_level, message_.log_level, kLogLevel);
        message_.images_dir_fd = options.images_fd;
        message_.log_file = const_cast<char*>(kCriuLogName);
        if (!options.root.empty()) message_.root = const_cast<char*>(options.root.c_str());
        enable(message_.has_notify_scripts, message_.notify_scripts);
        enable(message_.has_tcp_established, message_.tcp_established);
        enable(message_.has_file_locks, message_.file_locks);
        enable(message_.has_link_remap, message_.link_remap);
        enable(message_.has_force_irmap, message_.force_irmap);
        set(message_.has_ghost_limit, message_.ghost_limit, kGhostLimitBytes);
        set(message_.has_manage_cgroups_mode, message_.manage_cgroups_mode, kIgnoreCgroups);
        set(message_.has_network_lock, message_.network_lock, kSkipNetworkLock);
        if (options.orphan_terminal) {
            enable(message_.has_orphan_pts_master, message_.orphan_pts_master);
        }
        if (options.unprivileged) enable(message_.has_unprivileged, message_.unprivileged);
        for (const std::string& external : options.external) {
            externals_.push_back(const_cast<char*>(external.c_str()));
        }
        message_.n_external = externals_.size();
        message_.external = externals_.data();
        inherited_.resize(options.inherit_fds.size(), PPDSM_CRIU__INHERIT_FD__INIT);
        for (std::size_t i = 0; i < inherited_.size(); ++i) {
            inherited_[i].key = const_cast<char*>(options.inherit_fds[i].first.c_str());
            inherited_[i].fd = options.inherit_fds[i].second;
            pointers_.push_back(&inherited_[i]);
        }
        message_.n_inherit_fd = pointers_.size();
        message_.inherit_fd = pointers_.data();
    }
    PpdsmCriu__Options& get() { return message_; }

private:
    static void enable(protobuf_c_boolean& has, protobuf_c_boolean& value) { has = value = 1; }
    template <typename Field, typename Value>
    static void set(protobuf_c_boolean& has, Field& field, Value value) {
        has = 1;
        field = static_cast<Field>(value);
    }
    PpdsmCriu__Options message_ = PPDSM_CRIU__OPTIONS__INIT;
    std::vector<char*> externals_;
    std::vector<PpdsmCriu__InheritFd> inherited_;
    std::vector<PpdsmCriu__InheritFd*> pointers_;
};

Result<Response> run(const CriuOptions& options, const PpdsmCriu__Request& request, pid_t tree,
                     const CriuNotify& notify) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        return fail_errno("make a socket for CRIU");
    }
    const OwnedFd ours(pair[0]);
    OwnedFd theirs(pair[1]);
    const pid_t child = ::fork();
    if (child < 0) return fail_errno("fork for CRIU");
    if (child == 0) execute_criu(options, theirs.get());
    theirs.reset();
    Result<Response> response =
        send(ours, request).and_then([&] { return converse(ours, tree, child, notify); });
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!response && WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        return fail(Code::kNotFound, "cannot start CRIU: " + options.command.front());
    }
    if (!response && WIFSIGNALED(status)) {
        return fail(Code::kUnavailable,
                    "CRIU was killed by signal " + std::to_string(WTERMSIG(status)));
    }
    if (response && !response->success) {
        return fail(Code::kUnsupported, response->message.empty()
                                            ? "CRIU failed"
                                            : "CRIU failed: " + response->message);
    }
    return response;
}

}  // namespace

Status criu_dump(const CriuOptions& options, pid_t pid, const CriuNotify& notify) {
    OptionsMessage message(options);
    message.get().has_pid = 1;
    message.get().pid = pid;
    message.get().has_leave_running = 1;
    message.get().leave_running = 1;
    PpdsmCriu__Request request = PPDSM_CRIU__REQUEST__INIT;
    request.type = PPDSM_CRIU__REQUEST_TYPE__DUMP;
    request.opts = &message.get();
    PPDSM_TRY(run(options, request, pid, notify));
    return {};
}

Result<pid_t> criu_restore(const CriuOptions& options, const CriuNotify& notify) {
    OptionsMessage message(options);
    PpdsmCriu__Request request = PPDSM_CRIU__REQUEST__INIT;
    request.type = PPDSM_CRIU__REQUEST_TYPE__RESTORE;
    request.opts = &message.get();
    PPDSM_ASSIGN(const Response response, run(options, request, 0, notify));
    return response.pid;
}

}  // namespace ppdsm
