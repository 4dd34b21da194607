#include "criu-glue/sandbox/message_socket.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>

namespace ppdsm {

namespace {

constexpr std::size_t kMaxFds = 8;
constexpr std::size_t kMaxTextBytes = 48 << 10;

struct Record {
    WardenMessage::Type type;
    std::uint32_t reserved;
    std::array<std::uint64_t, 2> numbers;
};

}  // namespace

Status MessageSocket::send(const WardenMessage& message) {
    Record record{message.type, 0, message.numbers};
    const std::size_t text_bytes = std::min(message.text.size(), kMaxTextBytes);
    std::array<iovec, 2> parts{
        {{&record, sizeof record}, {const_cast<char*>(message.text.data()), text_bytes}}};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    if (!message.fds.empty()) {
        const std::size_t bytes = message.fds.size() * sizeof(int);
        header.msg_control = control.data();
        header.msg_controllen = CMSG_SPACE(bytes);
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(bytes);
        std::array<int, kMaxFds> numbers{};
        for (std::size_t i = 0; i < message.fds.size(); ++i) numbers[i] = message.fds[i].get();
        std::memcpy(CMSG_DATA(rights), numbers.data(), bytes);
    }
    while (::sendmsg(socket_.get(), &header, MSG_NOSIGNAL) < 0) {
        if (errno != EINTR) return fail_errno("send to the sandbox's other side");
    }
    return {};
}

Result<WardenMessage> MessageSocket::receive() {
    Record record{};
    std::string text(kMaxTextBytes, '\0');
    std::array<iovec, 2> parts{{{&record, sizeof record}, {text.data(), text.size()}}};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    ssize_t got = 0;
    while ((got = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC)) < 0) {
        // A reset is told once, before what the other side had sent: that is still there.
        if (errno != EINTR && errno != ECONNRESET) {
            return fail_errno("receive from the sandbox's other side");
        }
    }
    if (got == 0) return fail(Code::kUnavailable, "the sandbox's other side is gone");
    if (static_cast<std::size_t>(got) < sizeof record) {
        return fail(Code::kCorrupt, "short message from the sandbox's other side");
    }
    WardenMessage message;
    message.type = record.type;
    message.numbers = record.numbers;
    text.resize(static_cast<std::size_t>(got) - sizeof record);
    message.text = std::move(text);
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
         part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
            message.fds.emplace_back(fd);
        }
    }
    return message;
}

}  // namespace ppdsm
