// The executor's end of a warden: starts the process and holds it.
#pragma once

#include <filesystem>

#include "criu-glue/sandbox/message_socket.h"
#include "criu-glue/sandbox/spec.h"

namespace ppdsm {

class WardenLink {
public:
    /// Starts a warden for the sandbox. It dies with the calling thread, so call from the main one.
    /// `files`: the file server's end of its channel (file_channel.h), for a spec with file roots.
    static Result<WardenLink> spawn(const std::filesystem::path& executable,
                                    const SandboxSpec& spec, OwnedFd files = {});
    WardenLink(WardenLink&&) noexcept = default;
    WardenLink& operator=(WardenLink&&) = delete;
    WardenLink(const WardenLink&) = delete;
    WardenLink& operator=(const WardenLink&) = delete;
    /// Kills the warden and with it everything in the sandbox; returns when all of it is gone.
    ~WardenLink();

    /// Kills it, and with it everything in the sandbox; its socket tells when it is gone.
    void kill();
    [[nodiscard]] MessageSocket& socket() { return socket_; }

private:
    WardenLink(MessageSocket socket, OwnedFd process)
        : socket_(std::move(socket)), process_(std::move(process)) {}
    MessageSocket socket_;
    OwnedFd process_;  ///< pidfd; invalid once moved from.
};

}  // namespace ppdsm
