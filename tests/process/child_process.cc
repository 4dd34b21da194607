#include "tests/process/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdlib>

#include "dsm/base/check.h"

namespace ppdsm::process_test {
namespace {

struct Pipe {
    OwnedFd read, write;
};

Pipe make_pipe() {
    int fds[2];
    PPDSM_CHECK(pipe2(fds, O_CLOEXEC) == 0);
    return {OwnedFd(fds[0]), OwnedFd(fds[1])};
}

struct Terminal {
    OwnedFd master, slave;
};

Terminal make_terminal() {
    OwnedFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    PPDSM_CHECK(master.valid() && grantpt(master.get()) == 0 && unlockpt(master.get()) == 0);
    char name[64];
    PPDSM_CHECK(ptsname_r(master.get(), name, sizeof name) == 0);
    OwnedFd slave(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    PPDSM_CHECK(slave.valid());
    return {std::move(master), std::move(slave)};
}

/// Between fork and exec of a process that has threads: system calls only, all memory prepared.
struct Prepared {
    std::vector<char*> argv, envp;
    const char* cwd = nullptr;
    int fds[3] = {-1, -1, -1};
    bool terminal = false;
};

[[noreturn]] void become(const Prepared& prepared) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    signal(SIGPIPE, SIG_DFL);
    if (prepared.terminal) {
        if (setsid() == -1 || ioctl(prepared.fds[0], TIOCSCTTY, 0) == -1) _exit(121);
    } else if (setpgid(0, 0) == -1) {
        _exit(122);
    }
    for (int i = 0; i < 3; ++i) {
        if (dup2(prepared.fds[i], i) == -1) _exit(123);
    }
    if (chdir(prepared.cwd) == -1) _exit(124);
    execvpe(prepared.argv[0], prepared.argv.data(), prepared.envp.data());
    _exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& argv, const std::filesystem::path& cwd,
                           const std::map<std::string, std::string>& environment, Input input) {
    std::vector<std::string> variables;
    for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
    Prepared prepared;
    for (const std::string& argument : argv) {
        prepared.argv.push_back(const_cast<char*>(argument.c_str()));
    }
    prepared.argv.push_back(nullptr);
    for (std::string& variable : variables) prepared.envp.push_back(variable.data());
    prepared.envp.push_back(nullptr);
    prepared.cwd = cwd.c_str();

    OwnedFd theirs[3];
    if (input.kind == Input::Kind::kTerminal) {
        Terminal terminal = make_terminal();
        theirs[0] = std::move(terminal.slave);
        for (int i = 0; i < 3; ++i) prepared.fds[i] = theirs[0].get();
        out_.fd = OwnedFd(fcntl(terminal.master.get(), F_DUPFD_CLOEXEC, 0));
        input_ = std::move(terminal.master);
        prepared.terminal = true;
    } else {
        Pipe out = make_pipe(), err = make_pipe();
        if (input.kind == Input::Kind::kNull) {
            theirs[0] = OwnedFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
        } else {
            Pipe in = make_pipe();
            theirs[0] = std::move(in.read);
            input_ = std::move(in.write);
        }
        theirs[1] = std::move(out.write), theirs[2] = std::move(err.write);
        out_.fd = std::move(out.read), err_.fd = std::move(err.read);
        for (int i = 0; i < 3; ++i) prepared.fds[i] = theirs[i].get();
    }
    started_ = std::chrono::steady_clock::now();
    pid_ = fork();
    PPDSM_CHECK(pid_ != -1);
    if (pid_ == 0) become(prepared);
    pidfd_ = OwnedFd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    PPDSM_CHECK(pidfd_.valid());
    if (input.kind == Input::Kind::kText) {
        to_feed_ = std::move(input.text);
        fcntl(input_.get(), F_SETFL, O_NONBLOCK);
        signal(SIGPIPE, SIG_IGN);  // A child that ends early is a test's subject, not our death.
    }
    Pipe stop = make_pipe();
    stop_read_ = std::move(stop.read), stop_write_ = std::move(stop.write);
    out_.hash_state = XXH3_createState();
    XXH3_64bits_reset(static_cast<XXH3_state_t*>(out_.hash_state));
    const bool feeds = input.kind == Input::Kind::kText;
    if (feeds && to_feed_.empty()) input_.reset();
    pump_thread_ = std::thread([this] { pump(); });
}

ChildProcess::~ChildProcess() {
    if (!has_ended()) {
        kill(pid_, SIGKILL);
        reap(true);
    }
    stop_write_.reset();
    if (pump_thread_.joinable()) pump_thread_.join();
    XXH3_freeState(static_cast<XXH3_state_t*>(out_.hash_state));
}

void ChildProcess::send_signal(int signal_number) const {
    if (!wait_status_) kill(pid_, signal_number);
}

bool ChildProcess::reap(bool block_for_it) {
    if (wait_status_) return true;
    int status = 0;
    pid_t reaped = 0;
    do {
        reaped = waitpid(pid_, &status, block_for_it ? 0 : WNOHANG);
    } while (reaped == -1 && errno == EINTR);
    if (reaped != pid_) return false;
    wait_status_ = status;
    wall_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
    return true;
}

bool ChildProcess::has_ended() { return reap(false); }

/// False at the end of the stream. A terminal says EIO when its last user has gone.
bool ChildProcess::pump_stream(Stream& stream) {
    char block[65536];
    const ssize_t got = read(stream.fd.get(), block, sizeof block);
    if (got == -1 && (errno == EINTR || errno == EAGAIN)) return true;
    if (got <= 0) return false;
    const auto size = static_cast<std::size_t>(got);
    const std::lock_guard lock(mutex_);
    if (stream.hash_state != nullptr) {
        XXH3_64bits_update(static_cast<XXH3_state_t*>(stream.hash_state), block, size);
    }
    stream.size_bytes += size;
    if (stream.size_bytes <= Outcome::kKeptBytes) stream.kept.append(block, size);
    return true;
}

void ChildProcess::feed_input() {
    const ssize_t done = write(input_.get(), to_feed_.data() + fed_, to_feed_.size() - fed_);
    if (done == -1 && (errno == EAGAIN || errno == EINTR)) return;
    if (done > 0) fed_ += static_cast<std::size_t>(done);
    if (done <= 0 || fed_ == to_feed_.size()) input_.reset();
}

void ChildProcess::pump() {
    bool out_open = true, err_open = err_.fd.valid();
    while (out_open || err_open) {
        const bool feeding = fed_ < to_feed_.size() && input_.valid();
        pollfd ready[4] = {{out_open ? out_.fd.get() : -1, POLLIN, 0},
                           {err_open ? err_.fd.get() : -1, POLLIN, 0},
                           {feeding ? input_.get() : -1, POLLOUT, 0},
                           {stop_read_.get(), POLLIN, 0}};
        if (poll(ready, 4, -1) == -1) continue;
        if (ready[0].revents != 0) out_open = pump_stream(out_);
        if (ready[1].revents != 0) err_open = pump_stream(err_);
        if (ready[2].revents != 0) feed_input();
        if (ready[3].revents != 0 && ready[0].revents == 0 && ready[1].revents == 0) break;
    }
    const std::lock_guard lock(mutex_);
    pump_done_ = true;
}

Outcome ChildProcess::wait(std::chrono::duration<double> deadline) {
    const auto until = std::chrono::steady_clock::now() + deadline;
    const auto left_ms = [&] {
        const std::chrono::duration<double, std::milli> left =
            until - std::chrono::steady_clock::now();
        return left.count() > 0 ? static_cast<int>(left.count()) + 1 : 0;
    };
    pollfd ended{pidfd_.get(), POLLIN, 0};
    while (!has_ended() && left_ms() > 0) poll(&ended, 1, left_ms());
    bool in_time = has_ended();
    const auto streams_ended = [&] {
        const std::lock_guard lock(mutex_);
        return pump_done_;
    };
    while (in_time && !streams_ended() && left_ms() > 0) usleep(1000);
    if (!in_time) {
        ADD_FAILURE() << "process " << pid_ << " did not end within " << deadline.count() << " s";
        kill(pid_, SIGKILL);
        reap(true);
    } else if (!streams_ended()) {
        ADD_FAILURE() << "process " << pid_ << " has ended but something still holds its output";
    }
    stop_write_.reset();
    pump_thread_.join();
    Outcome outcome;
    if (in_time) {
        outcome.exit_code =
            WIFEXITED(*wait_status_) ? WEXITSTATUS(*wait_status_) : 128 + WTERMSIG(*wait_status_);
    }
    outcome.out = std::move(out_.kept);
    outcome.err = std::move(err_.kept);
    outcome.out_bytes = out_.size_bytes;
    outcome.out_hash = XXH3_64bits_digest(static_cast<XXH3_state_t*>(out_.hash_state));
    outcome.wall_s = wall_s_;
    return outcome;
}

std::string ChildProcess::out_so_far() const {
    const std::lock_guard lock(mutex_);
    return out_.kept;
}

std::string ChildProcess::err_so_far() const {
    const std::lock_guard lock(mutex_);
    return err_.kept;
}

void ChildProcess::write_input(std::string_view text) {
    while (!text.empty()) {
        const ssize_t done = write(input_.get(), text.data(), text.size());
        if (done == -1 && errno == EINTR) continue;
        if (done <= 0) {
            ADD_FAILURE() << "process " << pid_ << " no longer takes input";
            return;
        }
        text.remove_prefix(static_cast<std::size_t>(done));
    }
}

void ChildProcess::close_input() { input_.reset(); }

void ChildProcess::set_window(unsigned short rows, unsigned short columns) {
    const winsize size{rows, columns, 0, 0};
    if (ioctl(input_.get(), TIOCSWINSZ, &size) == -1) ADD_FAILURE() << "the window cannot change";
}

}  // namespace ppdsm::process_test
