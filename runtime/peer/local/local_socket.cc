#include "runtime/peer/local/local_socket.h"

#include <fcntl.h>

#include <cstring>
#include <nlohmann/json.hpp>

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::size_t kMaxHeadBytes = std::size_t{64} << 10;
constexpr std::size_t kMaxPacketBytes = sizeof(std::uint32_t) + kMaxHeadBytes + kMaxLocalDataBytes;

Status send_message(const OwnedFd& fd, const LocalMessage& message) {
    const auto head_bytes = static_cast<std::uint32_t>(message.head.size());
    Bytes start(sizeof head_bytes);
    std::memcpy(start.data(), &head_bytes, sizeof head_bytes);
    start.insert(start.end(), message.head.begin(), message.head.end());
    return send_packet(fd, start, message.data, message.fds);
}

}  // namespace

Result<std::pair<Json, LocalMessage>> decode_local(Packet packet) {
    std::uint32_t head_bytes = 0;
    if (packet.bytes.size() < sizeof head_bytes) return fail(Code::kCorrupt, "short message");
    std::memcpy(&head_bytes, packet.bytes.data(), sizeof head_bytes);
    if (head_bytes > packet.bytes.size() - sizeof head_bytes) {
        return fail(Code::kCorrupt, "short message");
    }
    const auto begin = packet.bytes.begin() + sizeof head_bytes;
    const auto end = begin + head_bytes;
    Json head = Json::parse(begin, end, nullptr, false);
    if (!head.is_object()) return fail(Code::kCorrupt, "a message that is no JSON object");
    LocalMessage message;
    message.data.assign(end, packet.bytes.end());
    message.fds = std::move(packet.fds);
    return std::pair(std::move(head), std::move(message));
}

LocalSocket::~LocalSocket() { *alive_ = false; }

LocalSocket::LocalSocket(Loop& loop, OwnedFd fd)
    : fd_(std::move(fd)), poller_(loop, fd_.get(), [this](int events) { on_ready(events); }) {
    ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) | O_NONBLOCK);
}

void LocalSocket::listen(Callbacks callbacks) {
    callbacks_ = std::move(callbacks);
    watch();
}

void LocalSocket::watch() {
    if (closed_) return poller_.watch(0);
    const int writable = waiting_.empty() ? 0 : UV_WRITABLE;
    const int readable = callbacks_.on_message ? UV_READABLE | UV_DISCONNECT : 0;
    poller_.watch(readable | writable);
}

void LocalSocket::send(const Json& head, Bytes data, std::vector<OwnedFd> fds) {
    if (closed_) return;
    LocalMessage message{head.dump(-1, ' ', false, Json::error_handler_t::replace), std::move(data),
                         std::move(fds)};
    if (waiting_.empty()) {
        const Status sent = send_message(fd_, message);
        // That the other side is gone is told by reading, after what it had still to say.
        if (sent || sent.error().code() != Code::kOverloaded) return;
    }
    waiting_.push_back(std::move(message));
    watch();
}

void LocalSocket::flush() {
    while (!waiting_.empty()) {
        const LocalMessage& next = waiting_.front();
        const Status sent = send_message(fd_, next);
        if (!sent && sent.error().code() == Code::kOverloaded) break;
        waiting_.pop_front();
    }
    watch();
}

void LocalSocket::on_ready(int events) {
    if ((events & UV_WRITABLE) != 0) flush();
    if ((events & (UV_READABLE | UV_DISCONNECT)) == 0) return;
    Result<Packet> packet = receive_packet(fd_, kMaxPacketBytes);
    if (!packet && packet.error().code() == Code::kOverloaded) return;
    if (!packet) return close();
    auto decoded = decode_local(*std::move(packet));
    if (!decoded) return close();
    const auto on_message = callbacks_.on_message;  // It may destroy us.
    const auto alive = alive_;
    try {
        on_message(decoded->first, std::move(decoded->second));
    } catch (const Json::exception&) {
        // A field of another type than it has: the other side is none of ours.
        if (*alive) close();
    }
}

void LocalSocket::close() {
    closed_ = true;
    watch();
    const auto on_closed = callbacks_.on_closed;  // It may destroy us.
    if (on_closed) on_closed();
}

Result<Json> ask_local(const std::filesystem::path& path, const Json& request) {
    PPDSM_ASSIGN(const OwnedFd socket, connect_to(path));
    return ask_through(socket, request);
}

Result<Json> ask_through(const OwnedFd& socket, const Json& request) {
    PPDSM_ASSIGN(Json answer, exchange(socket, request));
    if (answer.contains("error")) return fail(error_from_json(answer["error"]));
    return answer;
}

Result<Json> exchange(const OwnedFd& socket, const Json& request) {
    PPDSM_TRY(send_message(socket, {request.dump(), {}, {}}));
    Result<Packet> packet = receive_packet(socket, kMaxPacketBytes);
    if (!packet) return fail(packet.error().within("no answer"));
    PPDSM_ASSIGN(auto decoded, decode_local(*std::move(packet)));
    return std::move(decoded.first);
}

Json error_to_json(const Error& error) {
    return {{"code", static_cast<int>(error.code())}, {"what", error.message()}};
}

Error error_from_json(const Json& json) {
    if (!json.is_object())
        return {Code::kUnavailable, json.is_string() ? json.get<std::string>() : ""};
    const int code = json.value("code", static_cast<int>(Code::kUnavailable));
    const bool known = code >= 0 && code <= static_cast<int>(Code::kIo);
    return {known ? static_cast<Code>(code) : Code::kUnavailable, json.value("what", "")};
}

}  // namespace ppdsm
