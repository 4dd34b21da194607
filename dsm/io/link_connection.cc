#include "dsm/io/link_connection.h"

#include <netdb.h>

#include <algorithm>

#include "dsm/base/check.h"

namespace ppdsm {

namespace {

constexpr std::uint64_t kHandshakeMs = 5'000;
constexpr std::uint64_t kCloseMs = 2'000;
constexpr std::size_t kReadBytes = std::size_t{128} << 10;
/// Kept in the kernel's hands, so that a control frame waits behind no more than this.
constexpr std::size_t kInFlightBytes = std::size_t{256} << 10;
constexpr unsigned kKeepAliveS = 30;
constexpr std::size_t kMaxSpareBuffers = 4;

std::string host_of(const uv_tcp_t& tcp) {
    sockaddr_storage address{};
    int size = sizeof address;
    std::array<char, NI_MAXHOST> text{};
    if (uv_tcp_getpeername(&tcp, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
    ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(size),
                  text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
    return text.data();
}

}  // namespace

Link::Connection::Connection(Loop& loop, TlsSession::Role role, LinkPurpose purpose)
    : loop_(loop), role_(role), purpose_(purpose), socket_(new Socket), deadline_(loop, [this] {
          on_deadline();
      }) {
    uv_tcp_init(loop_.get(), &socket_->tcp);
    socket_->tcp.data = socket_;
    deadline_.start(kHandshakeMs);
}

LinkPurpose Link::Connection::purpose() const { return tls_ ? tls_->purpose() : purpose_; }

void Link::Connection::connect(const TlsContext& tls, const Endpoint& endpoint,
                               TlsSession::Judge judge) {
    socket_->owner = shared_from_this();
    endpoint_ = endpoint.to_string();
    auto session = TlsSession::create(tls, role_, purpose_, std::move(judge));
    if (!session) {
        loop_.post([self = shared_from_this(), why = session.error()] { self->fail(why); });
        return;
    }
    tls_ = *std::move(session);
    struct Lookup {
        uv_getaddrinfo_t request{};
        std::shared_ptr<Connection> connection;
    };
    auto* lookup = new Lookup{{}, shared_from_this()};
    lookup->request.data = lookup;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    const int asked = uv_getaddrinfo(
        loop_.get(), &lookup->request,
        [](uv_getaddrinfo_t* request, int status, addrinfo* found) {
            const std::unique_ptr<Lookup> done(static_cast<Lookup*>(request->data));
            done->connection->on_resolved(status, found);
            uv_freeaddrinfo(found);
        },
        endpoint.host.c_str(), endpoint.port.c_str(), &hints);
    PPDSM_CHECK(asked == 0);
}

void Link::Connection::on_resolved(int status, addrinfo* addresses) {
    if (state_ != State::kConnecting) return;
    if (status != 0) {
        return fail({Code::kUnavailable, "find " + endpoint_ + ": " + uv_strerror(status)});
    }
    auto* request = new uv_connect_t{};
    request->data = socket_;
    const int begun = uv_tcp_connect(request, &socket_->tcp, addresses->ai_addr,
                                     [](uv_connect_t* done, int outcome) {
                                         const auto* socket = static_cast<Socket*>(done->data);
                                         const auto owner = socket->owner;
                                         delete done;
                                         if (owner) owner->on_connected(outcome);
                                     });
    if (begun != 0) {
        delete request;
        fail({Code::kUnavailable, "connect to " + endpoint_ + ": " + uv_strerror(begun)});
    }
}

void Link::Connection::on_connected(int status) {
    if (state_ != State::kConnecting) return;
    if (status != 0) {
        return fail({Code::kUnavailable, "connect to " + endpoint_ + ": " + uv_strerror(status)},
                    status == UV_ECONNREFUSED);
    }
    state_ = State::kHandshake;
    start_reading();
    flush();
}

Status Link::Connection::accept(const TlsContext& tls, uv_stream_t* listener,
                                TlsSession::Judge judge) {
    socket_->owner = shared_from_this();
    const int taken = uv_accept(listener, reinterpret_cast<uv_stream_t*>(&socket_->tcp));
    if (taken != 0) {
        close_socket();
        return ppdsm::fail(Code::kUnavailable,
                           std::string("accept a connection: ") + uv_strerror(taken));
    }
    auto session = TlsSession::create(tls, role_, purpose_, std::move(judge));
    if (!session) {
        close_socket();
        return ppdsm::fail(session.error());
    }
    tls_ = *std::move(session);
    state_ = State::kHandshake;
    start_reading();
    return {};
}

void Link::Connection::start_reading() {
    remote_host_ = host_of(socket_->tcp);
    if (endpoint_.empty()) endpoint_ = remote_host_;
    uv_tcp_nodelay(&socket_->tcp, 1);
    uv_tcp_keepalive(&socket_->tcp, 1, kKeepAliveS);
    read_buffer_.resize(kReadBytes);
    uv_read_start(
        reinterpret_cast<uv_stream_t*>(&socket_->tcp),
        [](uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
            const auto& owner = static_cast<Socket*>(handle->data)->owner;
            *buffer = uv_buf_init(reinterpret_cast<char*>(owner->read_buffer_.data()),
                                  static_cast<unsigned>(owner->read_buffer_.size()));
        },
        [](uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer) {
            const auto owner = static_cast<Socket*>(stream->data)->owner;
            owner->on_bytes(count, buffer);
        });
}

void Link::Connection::on_bytes(ssize_t count, const uv_buf_t* buffer) {
    if (count == 0 || state_ == State::kClosed) return;
    if (state_ == State::kLingering) {
        if (count < 0) close_socket();
        return;
    }
    if (count < 0) {
        const char* why = count == UV_EOF ? "closed" : uv_strerror(static_cast<int>(count));
        return fail({Code::kUnavailable, "the connection to " + endpoint_ + ": " + why});
    }
    const ByteView wire(reinterpret_cast<const std::uint8_t*>(buffer->base),
                        static_cast<std::size_t>(count));
    const Status taken = tls_->receive(wire, [this](ByteView plain) { return on_plain(plain); });
    if (state_ == State::kClosed) return;
    if (!taken) return fail(taken.error().within(endpoint_));
    greet();
    pump();
}

/// Said as soon as TLS allows, so that the other side sees that it is trusted.
void Link::Connection::greet() {
    if (!tls_->is_open() || greeted_ || state_ != State::kHandshake) return;
    greeted_ = true;
    if (purpose() == LinkPurpose::kJoin) return become_open();
    (void)tls_->send(encode_preamble());
}

void Link::Connection::become_open() {
    deadline_.stop();
    state_ = State::kOpen;
    const auto on_open = callbacks.on_open;
    if (on_open) on_open();
}

Status Link::Connection::on_preamble(ByteView& plain) {
    const std::size_t take = std::min(plain.size(), kPreambleBytes - preamble_.size());
    preamble_.insert(preamble_.end(), plain.begin(),
                     plain.begin() + static_cast<std::ptrdiff_t>(take));
    plain = plain.subspan(take);
    if (preamble_.size() < kPreambleBytes) return {};
    greet();
    PPDSM_TRY(check_preamble(preamble_));
    become_open();
    return {};
}

Status Link::Connection::on_plain(ByteView plain) {
    greet();
    if (purpose() == LinkPurpose::kJoin) {
        const auto on_bytes = callbacks.on_join_bytes;
        return on_bytes ? on_bytes(plain) : Status();
    }
    if (state_ == State::kHandshake) PPDSM_TRY(on_preamble(plain));
    return reader_.feed(plain, [this](Frame frame) -> Status {
        if (state_ != State::kOpen) return {};
        const auto on_frame = callbacks.on_frame;
        return on_frame ? on_frame(std::move(frame)) : Status();
    });
}

void Link::Connection::send(Priority priority, MessageType type, std::uint64_t correlation,
                            ByteView payload) {
    if (state_ != State::kOpen) return;
    PPDSM_CHECK(payload.size() <= max_payload_bytes(type));
    Queue& waiting = queues_.at(static_cast<std::size_t>(priority));
    waiting.frames.push_back(encode_frame(type, correlation, payload));
    waiting.bytes += waiting.frames.back().size();
    if (priority == Priority::kBulk && waiting.bytes >= kBulkWindowBytes) wants_drained_ = true;
    if (priority == Priority::kControl && waiting.bytes > kMaxControlBytes) {
        loop_.post([self = shared_from_this()] {
            self->fail({Code::kOverloaded, self->endpoint_ + " takes no messages"});
        });
        return;
    }
    pump();
}

void Link::Connection::send_join_bytes(ByteView bytes) {
    if (state_ != State::kOpen) return;
    (void)tls_->send(bytes);
    flush();
}

bool Link::Connection::send_next(Priority priority) {
    Queue& waiting = queues_.at(static_cast<std::size_t>(priority));
    if (waiting.frames.empty()) return false;
    const Bytes frame = std::move(waiting.frames.front());
    waiting.frames.pop_front();
    waiting.bytes -= frame.size();
    (void)tls_->send(frame);  // What can go wrong is seen by reading.
    flush();
    return true;
}

void Link::Connection::pump() {
    flush();
    if (state_ != State::kOpen && state_ != State::kClosing) return;
    while (in_flight_bytes_ < kInFlightBytes) {
        if (!send_next(Priority::kControl) && !send_next(Priority::kBulk)) break;
    }
    if (state_ == State::kClosing) {
        const bool empty = queue(Priority::kControl).frames.empty() &&
                           queue(Priority::kBulk).frames.empty() && in_flight_bytes_ == 0;
        if (empty) close_socket();
        return;
    }
    if (wants_drained_ && queue(Priority::kBulk).bytes < kBulkWindowBytes / 2) {
        wants_drained_ = false;
        const auto on_drained = callbacks.on_drained;
        if (on_drained) on_drained();
    }
}

void Link::Connection::flush() {
    if (!tls_ || state_ == State::kConnecting || state_ == State::kClosed) return;
    struct Write {
        uv_write_t request{};
        Bytes bytes;
        std::size_t size = 0;
        std::shared_ptr<Connection> connection;
    };
    Bytes wire;
    if (!spare_buffers_.empty()) {
        wire = std::move(spare_buffers_.back());
        spare_buffers_.pop_back();
    }
    const std::size_t size = tls_->take_wire(wire);
    if (size == 0) return keep_spare(std::move(wire));
    auto* write = new Write{{}, std::move(wire), size, shared_from_this()};
    write->request.data = write;
    in_flight_bytes_ += size;
    const uv_buf_t buffer =
        uv_buf_init(reinterpret_cast<char*>(write->bytes.data()), static_cast<unsigned>(size));
    const int begun =
        uv_write(&write->request, reinterpret_cast<uv_stream_t*>(&socket_->tcp), &buffer, 1,
                 [](uv_write_t* request, int status) {
                     const std::unique_ptr<Write> done(static_cast<Write*>(request->data));
                     done->connection->keep_spare(std::move(done->bytes));
                     done->connection->on_written(done->size, status);
                 });
    if (begun != 0) {
        delete write;
        in_flight_bytes_ -= size;
    }
}

/// A buffer made anew for each write would cost more than what is done with it.
void Link::Connection::keep_spare(Bytes buffer) {
    if (spare_buffers_.size() < kMaxSpareBuffers) spare_buffers_.push_back(std::move(buffer));
}

void Link::Connection::on_written(std::size_t bytes, int status) {
    in_flight_bytes_ -= bytes;
    if (status == 0 && state_ != State::kClosed) pump();
}

void Link::Connection::on_deadline() {
    if (state_ == State::kConnecting) {
        return fail({Code::kUnavailable, "connect to " + endpoint_ + ": no answer in " +
                                             std::to_string(kHandshakeMs / 1000) + " s"});
    }
    if (state_ == State::kHandshake) {
        return fail({Code::kUnavailable, endpoint_ + " did not say who it is in " +
                                             std::to_string(kHandshakeMs / 1000) + " s"});
    }
    close_socket();
}

void Link::Connection::close() {
    if (state_ == State::kConnecting || state_ == State::kHandshake) return close_socket();
    if (state_ != State::kOpen) return;
    callbacks = {};
    state_ = State::kClosing;
    deadline_.start(kCloseMs);
    pump();
}

void Link::Connection::abandon() {
    callbacks = {};
    if (state_ != State::kClosing && state_ != State::kLingering) close_socket();
}

/// Our last words (an alert) reach the other side only if we take what it still sends.
void Link::Connection::linger() {
    state_ = State::kLingering;
    Bytes wire;
    const std::size_t size = tls_->take_wire(wire);
    uv_buf_t buffer =
        uv_buf_init(reinterpret_cast<char*>(wire.data()), static_cast<unsigned>(size));
    if (size != 0) {
        uv_try_write(reinterpret_cast<uv_stream_t*>(&socket_->tcp), &buffer, 1);
    }
    int fd = -1;
    if (uv_fileno(reinterpret_cast<uv_handle_t*>(&socket_->tcp), &fd) == 0) ::shutdown(fd, SHUT_WR);
    deadline_.start(kCloseMs);
}

void Link::Connection::fail(const Error& why, bool refused) {
    if (state_ == State::kClosed || state_ == State::kLingering) return;
    const auto on_closed = callbacks.on_closed;
    callbacks = {};
    if (state_ == State::kHandshake || state_ == State::kOpen) {
        linger();
    } else {
        close_socket();
    }
    if (on_closed) on_closed(why, refused);
}

void Link::Connection::close_socket() {
    if (state_ == State::kClosed) return;
    state_ = State::kClosed;
    deadline_.stop();
    uv_close(reinterpret_cast<uv_handle_t*>(&socket_->tcp),
             [](uv_handle_t* handle) { delete static_cast<Socket*>(handle->data); });
}

}  // namespace ppdsm
