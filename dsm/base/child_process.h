// A child process that is held by its pidfd, and that talks through a socket it inherits.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

class ChildProcess {
public:
    /// Starts `executable`, which gets `socket` as descriptor 3, `log` (when valid) as stdout and
    /// stderr, and no other descriptor of ours.
    static Result<ChildProcess> start(const std::filesystem::path& executable,
                                      const std::vector<std::string>& arguments,
                                      const OwnedFd& socket, const OwnedFd& log);
    ChildProcess(ChildProcess&&) noexcept = default;
    ChildProcess& operator=(ChildProcess&&) = delete;
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    /// Kills it if it lives, and returns when it is gone.
    ~ChildProcess();

    /// Readable when it has ended.
    [[nodiscard]] const OwnedFd& pidfd() const { return pidfd_; }
    [[nodiscard]] int pid() const { return pid_; }
    void kill();
    /// Its wait status; blocks until it has ended.
    int wait();

private:
    ChildProcess(int pid, OwnedFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
    int pid_;
    OwnedFd pidfd_;  ///< Invalid once waited for or moved from.
};

}  // namespace ppdsm
