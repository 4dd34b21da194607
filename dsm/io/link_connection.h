// The inside of a Link. It lives on until libuv has closed its socket, whatever becomes of its
// owner.
#pragma once

#include <deque>

#include "dsm/io/link.h"

namespace ppdsm {

class Link::Connection : public std::enable_shared_from_this<Link::Connection> {
public:
    Connection(Loop& loop, TlsSession::Role role, LinkPurpose purpose);

    void connect(const TlsContext& tls, const Endpoint& endpoint, TlsSession::Judge judge);
    /// Of a listener that has a connection waiting.
    Status accept(const TlsContext& tls, uv_stream_t* listener, TlsSession::Judge judge);

    void send(Priority priority, MessageType type, std::uint64_t correlation, ByteView payload);
    void send_join_bytes(ByteView bytes);
    void close();
    /// The owner is gone.
    void abandon();
    void fail(const Error& why, bool refused = false);

    Callbacks callbacks;
    [[nodiscard]] bool is_open() const { return state_ == State::kOpen; }
    [[nodiscard]] const TlsSession* tls() const { return tls_.get(); }
    [[nodiscard]] TlsSession::Role role() const { return role_; }
    [[nodiscard]] LinkPurpose purpose() const;
    [[nodiscard]] const std::string& remote_host() const { return remote_host_; }
    [[nodiscard]] std::size_t waiting_bytes(Priority priority) const {
        return queue(priority).bytes;
    }

private:
    enum class State : std::uint8_t {
        kConnecting,
        kHandshake,
        kOpen,
        kClosing,
        kLingering,
        kClosed
    };
    struct Queue {
        std::deque<Bytes> frames;
        std::size_t bytes = 0;
    };
    struct Socket {
        uv_tcp_t tcp{};
        std::shared_ptr<Connection> owner;
    };

    [[nodiscard]] const Queue& queue(Priority priority) const {
        return queues_.at(static_cast<std::size_t>(priority));
    }
    void on_resolved(int status, addrinfo* addresses);
    void on_connected(int status);
    void start_reading();
    void on_bytes(ssize_t count, const uv_buf_t* buffer);
    Status on_plain(ByteView plain);
    Status on_preamble(ByteView& plain);
    void greet();
    void become_open();
    void pump();
    bool send_next(Priority priority);
    void flush();
    void keep_spare(Bytes buffer);
    void on_written(std::size_t bytes, int status);
    void on_deadline();
    void close_socket();
    void linger();

    Loop& loop_;
    TlsSession::Role role_;
    LinkPurpose purpose_;
    State state_ = State::kConnecting;
    Socket* socket_;
    std::unique_ptr<TlsSession> tls_;
    std::string endpoint_;
    std::string remote_host_;
    bool greeted_ = false;
    Bytes preamble_;
    FrameReader reader_;
    std::array<Queue, 2> queues_;
    std::size_t in_flight_bytes_ = 0;
    std::vector<Bytes> spare_buffers_;
    bool wants_drained_ = false;
    Bytes read_buffer_;
    Timer deadline_;
};

}  // namespace ppdsm
