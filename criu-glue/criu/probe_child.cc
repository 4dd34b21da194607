#include "criu-glue/criu/probe_child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"

namespace ppdsm {

namespace {

constexpr int kLimitMs = 5'000;

[[noreturn]] void answer_and_exit(const std::function<ProbeResult()>& probe, const OwnedFd& to) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    const ProbeResult result = probe();
    const std::string answer = (result.present ? "+" : "-") + result.detail;
    const bool written = write_all(to, as_bytes(answer)).has_value();
    // No destructors of static objects: they are the parent's.
    ::_exit(written ? 0 : 1);
}

std::string read_answer(const OwnedFd& from) {
    std::string answer;
    std::array<char, 1024> piece;
    for (;;) {
        pollfd readable{from.get(), POLLIN, 0};
        const int ready = ::poll(&readable, 1, kLimitMs);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return "";
        const ssize_t got = ::read(from.get(), piece.data(), piece.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return answer;
        answer.append(piece.data(), static_cast<std::size_t>(got));
    }
}

}  // namespace

ProbeResult absent_errno(const std::string& operation) {
    return {false, operation + ": " + std::strerror(errno)};
}

ProbeResult probe_in_child(const std::function<ProbeResult()>& probe) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return absent_errno("could not try: pipe");
    const OwnedFd read_end(ends[0]);
    OwnedFd write_end(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return absent_errno("could not try: fork");
    if (child == 0) answer_and_exit(probe, write_end);
    write_end.reset();
    const std::string answer = read_answer(read_end);
    // Its answer is all that is wanted of it; this also ends one that hangs.
    ::kill(child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (answer.empty()) {
        const bool crashed = WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL;
        return {false, crashed ? std::string("trying it crashed: ") + ::strsignal(WTERMSIG(status))
                               : std::string("trying it gave no answer")};
    }
    return {answer.front() == '+', answer.substr(1)};
}

}  // namespace ppdsm
