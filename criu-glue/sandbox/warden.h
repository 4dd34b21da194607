// The warden's service to its executor: makes one sandbox's tree, dumps and restores it on request,
// tells when it has ended. Blocking and single-threaded: while CRIU works, nothing else is asked of
// it.
#pragma once

#include <sys/types.h>

#include <string>

#include "criu-glue/criu/criu_service.h"
#include "criu-glue/sandbox/message_socket.h"
#include "criu-glue/sandbox/spec.h"

namespace ppdsm {

/// The processes behind the sandbox's file systems; 0: there is none.
struct SandboxServers {
    pid_t root = 0;
    pid_t files = 0;
};

class Warden {
public:
    Warden(SandboxSpec spec, MessageSocket executor, bool privileged, SandboxServers servers)
        : spec_(std::move(spec)),
          executor_(std::move(executor)),
          privileged_(privileged),
          servers_(servers) {}

    /// Serves until the executor hangs up or a tree has ended. kUnavailable: the sandbox's root or
    /// the owner's files are gone, and with them the sandbox; the caller ends, as if it had been
    /// killed itself.
    Status serve();

private:
    Status handle(WardenMessage message);
    Status start(WardenMessage message);
    Status dump();
    Status give_image_directory();
    Status restore(WardenMessage message);
    Status announce(WardenMessage::Type type, OwnedFd terminal);
    Status reap();
    Status check_servers() const;
    void end_tree(const std::string& why);
    Result<OwnedFd> fresh_image_directory();
    [[nodiscard]] std::string image_path() const;
    void remove_images();
    std::string log_tail() const;
    CriuOptions criu_options(bool restoring) const;

    SandboxSpec spec_;
    MessageSocket executor_;
    bool privileged_;
    SandboxServers servers_;
    pid_t init_ = 0;
    std::string end_reason_;  ///< Why we ended the tree ourselves.
    OwnedFd images_;
    std::uint64_t image_count_ = 0;
    bool ended_ = false;
};

}  // namespace ppdsm
