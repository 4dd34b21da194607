// The messages between an executor and the warden of one sandbox, over a SOCK_SEQPACKET pair: one
// small record each, descriptors beside it. Both ends are the same build, so the record is a
// struct.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

struct WardenMessage {
    enum class Type : std::uint32_t {
        // executor -> warden
        kStart,           ///< Make the tree. fds: the program's stdio (none for a terminal).
        kDump,            ///< Checkpoint the tree, leave it running.
        kCutDone,         ///< The executor has cut; numbers[0]: 1 go on, 0 abandon.
        kImageDirectory,  ///< Make an empty image directory; answered by the same type with its fd.
        kRestore,  ///< Restore from that directory. text: stdio keys, a line each; fds: stdio.
        // warden -> executor
        kReady,     ///< First of all. fds: pidfd of the warden proper, a child of the executor.
        kStarted,   ///< fds: pidfd of init, then the terminal's master if there is one.
        kFrozen,    ///< Dumped, still frozen: cut now, then kCutDone.
        kDumped,    ///< fds: image directory. text: stdio keys, a line each.
        kRestored,  ///< fds as kStarted.
        kFailed,    ///< The command failed; text: why, a line; then CRIU's log tail. numbers[0]: 1
                    ///< when it may succeed another time.
        kEnded,  ///< Init is gone. numbers[0]: the program's wait status; [1]: init's. text: why,
                 ///< when the warden ended it.
    };
    Type type{};
    std::array<std::uint64_t, 2> numbers{};
    std::string text;
    std::vector<OwnedFd> fds;
};

class MessageSocket {
public:
    explicit MessageSocket(OwnedFd socket) : socket_(std::move(socket)) {}
    [[nodiscard]] const OwnedFd& fd() const { return socket_; }

    Status send(const WardenMessage& message);
    /// Blocks. The other end gone: Code::kUnavailable.
    Result<WardenMessage> receive();

private:
    OwnedFd socket_;
};

}  // namespace ppdsm
