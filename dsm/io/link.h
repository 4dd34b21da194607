// A link: one authenticated, encrypted connection to another peer, on the loop's thread. Frames
// arrive whole and in order within a priority; control frames overtake bulk frames that still wait.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "dsm/io/loop.h"
#include "dsm/io/tls_session.h"
#include "dsm/wire/frame.h"

namespace ppdsm {

enum class Priority : std::uint8_t { kControl, kBulk };

/// Beyond this a sender of bulk frames waits for on_drained.
inline constexpr std::size_t kBulkWindowBytes = std::size_t{4} << 20;
/// A peer that lets more control frames wait is as good as gone.
inline constexpr std::size_t kMaxControlBytes = std::size_t{64} << 20;

struct Endpoint {
    std::string host;
    std::string port;
    [[nodiscard]] std::string to_string() const;
    /// "HOST:PORT", "[IPV6]:PORT". kInvalid.
    static Result<Endpoint> parse(const std::string& text);
};

class Link {
public:
    /// Any of them may destroy the link. After on_closed nothing comes.
    struct Callbacks {
        std::function<void()> on_open =
            nullptr;  ///< Both sides know each other and speak one version.
        /// What it returns closes the link.
        std::function<Status(Frame)> on_frame = nullptr;
        std::function<void()> on_drained = nullptr;  ///< Bulk frames have room again.
        /// Of a refused or broken connection. `refused`: nobody listens at its address: the host is
        /// there, the process is not.
        std::function<void(const Error& why, bool refused)> on_closed = nullptr;
        /// With LinkPurpose::kJoin: bytes, not frames.
        std::function<Status(ByteView)> on_join_bytes = nullptr;
    };

    /// Connects; what becomes of it is told by callbacks. `judge` decides about the key shown.
    static std::unique_ptr<Link> connect(Loop& loop, const TlsContext& tls,
                                         const Endpoint& endpoint, LinkPurpose purpose,
                                         TlsSession::Judge judge);
    ~Link();
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    void listen(Callbacks callbacks);
    void send(Priority priority, MessageType type, std::uint64_t correlation, ByteView payload);
    /// With LinkPurpose::kJoin.
    void send_join_bytes(ByteView bytes);
    [[nodiscard]] std::size_t waiting_bytes(Priority priority) const;
    /// Sends what waits, then closes; on_closed is not called.
    void close();

    [[nodiscard]] bool is_open() const;
    [[nodiscard]] PeerId peer() const;
    [[nodiscard]] const PublicKey& peer_key() const;
    [[nodiscard]] LinkPurpose purpose() const;
    [[nodiscard]] bool was_accepted() const;
    /// The other side's address, without the port it happens to use.
    [[nodiscard]] const std::string& remote_host() const;
    [[nodiscard]] std::array<std::uint8_t, 32> channel_binding() const;

private:
    friend class LinkListener;
    class Connection;
    explicit Link(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
    std::shared_ptr<Connection> connection_;
};

class LinkListener {
public:
    using OnLink = std::function<void(std::unique_ptr<Link>)>;
    /// Accepts connections at `endpoint`, "0" as port for any. `on_link` gets links that are
    /// open; those that do not come so far within seconds are dropped, the oldest first when there
    /// are many, so that idle connections keep nobody out.
    static Result<std::unique_ptr<LinkListener>> listen(Loop& loop, const TlsContext& tls,
                                                        const Endpoint& endpoint,
                                                        TlsSession::Judge judge, OnLink on_link);
    ~LinkListener();
    LinkListener(const LinkListener&) = delete;
    LinkListener& operator=(const LinkListener&) = delete;
    [[nodiscard]] std::uint16_t port() const;
    /// Of connections that did not come to be links: from where, and why.
    void watch_refusals(std::function<void(const std::string& host, const Error& why)> watcher);
    /// Connections refused so far, and why the last one was.
    [[nodiscard]] std::uint64_t refusals() const;
    [[nodiscard]] const std::string& last_refusal() const;

private:
    struct Impl;
    explicit LinkListener(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ppdsm
