// A forked process that runs one function.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>

namespace ppdsm::rings {

/// It is killed and waited for at the end, if not before.
class Process {
public:
    explicit Process(const std::function<int()>& body) {
        static_cast<void>(std::fflush(stdout));  // Else the child's exit prints it again.
        pid_ = ::fork();
        if (pid_ < 0) std::abort();
        if (pid_ == 0) ::_exit(body());
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process() {
        if (pid_ > 0) kill();
    }
    [[nodiscard]] pid_t pid() const { return pid_; }
    /// In a system call, and not about to go on.
    [[nodiscard]] bool is_asleep() const {
        std::ifstream stat("/proc/" + std::to_string(pid_) + "/stat");
        const std::string fields((std::istreambuf_iterator<char>(stat)),
                                 std::istreambuf_iterator<char>());
        return fields.at(fields.rfind(')') + 2) == 'S';
    }
    void kill() {
        ::kill(pid_, SIGKILL);
        static_cast<void>(wait());
    }
    /// Its exit code; -1: a signal.
    int wait() {
        int status = 0;
        if (::waitpid(std::exchange(pid_, 0), &status, 0) < 0) std::abort();
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

private:
    pid_t pid_ = 0;
};

}  // namespace ppdsm::rings
