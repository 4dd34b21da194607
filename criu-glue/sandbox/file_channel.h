// The messages between a sandbox's file server and whoever answers it (the peer's daemon), over a
// SOCK_SEQPACKET pair. Both ends are the same build, so the record is a struct. What is asked for,
// a listing or a content, is answered by the descriptor of a complete local file. What will
// probably be asked for may be given before.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

struct FileRequest {
    enum class Kind : std::uint32_t {
        kList,     ///< What the directory (or the root, whatever it is) shows.
        kContent,  ///< Of a regular file.
    };
    std::uint64_t id = 0;  ///< The asker's; its answer carries it.
    Kind kind = Kind::kList;
    std::string path;
};

/// An id of 0: what was given unasked is used now; not to be answered.
inline constexpr std::uint64_t kUnasked = 0;

struct FileReply {
    std::uint64_t id = 0;  ///< kUnasked: given ahead; `kind` and `path` say what.
    OwnedFd file;          ///< Invalid: it could not be had.
    std::string reason;    ///< Then: why, for people.
    FileRequest::Kind kind = FileRequest::Kind::kList;
    std::string path;
};

/// One end. Nothing blocks: what the socket does not take is kept and sent by flush().
class FileChannel {
public:
    /// Makes the socket non-blocking.
    explicit FileChannel(OwnedFd socket);
    [[nodiscard]] const OwnedFd& fd() const { return socket_; }

    /// The other end gone: kUnavailable.
    Status send(FileRequest request);
    Status send(FileReply reply);
    Status flush();
    [[nodiscard]] bool has_unsent() const { return !unsent_.empty(); }

    /// Nothing there: none. The other end gone: kUnavailable.
    Result<std::optional<FileRequest>> receive_request();
    Result<std::optional<FileReply>> receive_reply();

private:
    struct Message {
        std::uint64_t id = 0;
        std::uint32_t kind = 0;
        std::string text;
        OwnedFd fd;
    };
    Status send(Message message);
    /// False: the socket is full.
    Result<bool> try_send(const Message& message);
    Result<std::optional<Message>> receive();

    OwnedFd socket_;
    std::deque<Message> unsent_;
};

}  // namespace ppdsm
