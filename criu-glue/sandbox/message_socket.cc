#include "criu-glue/sandbox/message_socket.h"

#include <algorithm>
#include <cstring>

#include "dsm/base/packet_socket.h"

namespace ppdsm {

namespace {

constexpr std::size_t kMaxTextBytes = 48 << 10;

struct Record {
    WardenMessage::Type type;
    std::uint32_t reserved;
    std::array<std::uint64_t, 2> numbers;
};

}  // namespace

Status MessageSocket::send(const WardenMessage& message) {
    const Record record{message.type, 0, message.numbers};
    const ByteView head(reinterpret_cast<const std::uint8_t*>(&record), sizeof record);
    const ByteView text = as_bytes(message.text);
    const Status sent =
        send_packet(socket_, head, text.first(std::min(text.size(), kMaxTextBytes)), message.fds);
    if (!sent) return fail(sent.error().within("the sandbox"));
    return {};
}

Result<WardenMessage> MessageSocket::receive() {
    Record record{};
    Result<Packet> packet = receive_packet(socket_, sizeof record + kMaxTextBytes);
    if (!packet) return fail(packet.error().within("the sandbox"));
    if (packet->bytes.size() < sizeof record) {
        return fail(Code::kCorrupt, "the sandbox: a short message");
    }
    std::memcpy(&record, packet->bytes.data(), sizeof record);
    WardenMessage message;
    message.type = record.type;
    message.numbers = record.numbers;
    message.text = as_text(ByteView(packet->bytes).subspan(sizeof record));
    message.fds = std::move(packet->fds);
    return message;
}

}  // namespace ppdsm
