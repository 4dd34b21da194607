// One end of a conversation between processes of one user on one machine: command and daemon,
// daemon and executor. A message is a line of JSON, bytes, and descriptors. Sending never blocks:
// what the other side does not take yet waits here.
#pragma once

#include <deque>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "dsm/base/files.h"
#include "dsm/base/packet_socket.h"
#include "dsm/io/loop.h"

namespace ppdsm {

struct LocalMessage {
    std::string head;  ///< JSON object, at most 64 KiB.
    Bytes data;        ///< At most kMaxLocalDataBytes.
    std::vector<OwnedFd> fds;
};

inline constexpr std::size_t kMaxLocalDataBytes = std::size_t{64} << 10;

class LocalSocket {
public:
    /// Both on the loop's thread; either may destroy the socket. After on_closed nothing comes.
    struct Callbacks {
        std::function<void(const nlohmann::json& head, LocalMessage message)> on_message;
        std::function<void()> on_closed;
    };

    LocalSocket(Loop& loop, OwnedFd fd);
    ~LocalSocket();
    LocalSocket(const LocalSocket&) = delete;
    LocalSocket& operator=(const LocalSocket&) = delete;

    void listen(Callbacks callbacks);
    void send(const nlohmann::json& head, Bytes data = {}, std::vector<OwnedFd> fds = {});

private:
    void on_ready(int events);
    void flush();
    void watch();
    void close();

    OwnedFd fd_;
    Poller poller_;
    Callbacks callbacks_;
    std::deque<LocalMessage> waiting_;
    bool closed_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

/// For commands: sends `request` to the listener at `path` and returns its answer; blocks. An
/// answer with "error" becomes the error it names.
Result<nlohmann::json> ask_local(const std::filesystem::path& path, const nlohmann::json& request);

/// The same over a socket that is open already, and stays so.
Result<nlohmann::json> ask_through(const OwnedFd& socket, const nlohmann::json& request);
/// The same, for who must tell a refusal, which is an answer here, from no answer.
Result<nlohmann::json> exchange(const OwnedFd& socket, const nlohmann::json& request);

/// The bytes of one packet, and back; kCorrupt.
Result<std::pair<nlohmann::json, LocalMessage>> decode_local(Packet packet);

/// An error as a message carries it, and back.
nlohmann::json error_to_json(const Error& error);
Error error_from_json(const nlohmann::json& json);

}  // namespace ppdsm
