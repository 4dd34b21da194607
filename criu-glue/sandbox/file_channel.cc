#include "criu-glue/sandbox/file_channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstring>

namespace ppdsm {

namespace {

constexpr std::size_t kMostTextBytes = 8 << 10;  // Two paths.

struct Record {
    std::uint64_t id;
    std::uint32_t kind;
    std::uint32_t reserved;
};

}  // namespace

FileChannel::FileChannel(OwnedFd socket) : socket_(std::move(socket)) {
    const int flags = ::fcntl(socket_.get(), F_GETFL);
    ::fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK);
}

Status FileChannel::send(FileRequest request) {
    return send(
        {request.id, static_cast<std::uint32_t>(request.kind), std::move(request.path), OwnedFd()});
}

Status FileChannel::send(FileReply reply) {
    if (reply.id == kUnasked) {
        return send({kUnasked, static_cast<std::uint32_t>(reply.kind), std::move(reply.path),
                     std::move(reply.file)});
    }
    return send({reply.id, 0, std::move(reply.reason), std::move(reply.file)});
}

Status FileChannel::send(Message message) {
    if (message.text.size() > kMostTextBytes) message.text.resize(kMostTextBytes);
    unsent_.push_back(std::move(message));
    return flush();
}

Status FileChannel::flush() {
    while (!unsent_.empty()) {
        PPDSM_ASSIGN(const bool sent, try_send(unsent_.front()));
        if (!sent) return {};
        unsent_.pop_front();
    }
    return {};
}

Result<bool> FileChannel::try_send(const Message& message) {
    Record record{message.id, message.kind, 0};
    std::array<iovec, 2> parts{
        {{&record, sizeof record}, {const_cast<char*>(message.text.data()), message.text.size()}}};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    if (message.fd.valid()) {
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        const int number = message.fd.get();
        std::memcpy(CMSG_DATA(rights), &number, sizeof number);
    }
    while (::sendmsg(socket_.get(), &header, MSG_NOSIGNAL) < 0) {
        // ETOOMANYREFS: descriptors under way are bounded too.
        if (errno == EAGAIN || errno == ETOOMANYREFS) return false;
        if (errno != EINTR)
            return fail(Error(Code::kUnavailable, errno, "send over the file channel"));
    }
    return true;
}

Result<std::optional<FileChannel::Message>> FileChannel::receive() {
    Record record{};
    Message message;
    message.text.resize(kMostTextBytes);
    std::array<iovec, 2> parts{
        {{&record, sizeof record}, {message.text.data(), message.text.size()}}};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    ssize_t got = 0;
    while ((got = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC)) < 0) {
        if (errno == EAGAIN) return std::optional<Message>();
        if (errno != EINTR)
            return fail(Error(Code::kUnavailable, errno, "receive over the file channel"));
    }
    if (got == 0) return fail(Code::kUnavailable, "the file channel's other end is gone");
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
         part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        int number = -1;
        std::memcpy(&number, CMSG_DATA(part), sizeof number);
        message.fd.reset(number);
    }
    if (static_cast<std::size_t>(got) < sizeof record || (header.msg_flags & MSG_TRUNC) != 0) {
        return fail(Code::kCorrupt, "a message of the wrong size on the file channel");
    }
    message.id = record.id;
    message.kind = record.kind;
    message.text.resize(static_cast<std::size_t>(got) - sizeof record);
    return std::optional<Message>(std::move(message));
}

Result<std::optional<FileRequest>> FileChannel::receive_request() {
    PPDSM_ASSIGN(std::optional<Message> message, receive());
    if (!message) return std::optional<FileRequest>();
    if (message->kind > static_cast<std::uint32_t>(FileRequest::Kind::kContent)) {
        return fail(Code::kCorrupt, "an unknown request on the file channel");
    }
    return FileRequest{message->id, static_cast<FileRequest::Kind>(message->kind),
                       std::move(message->text)};
}

Result<std::optional<FileReply>> FileChannel::receive_reply() {
    PPDSM_ASSIGN(std::optional<Message> message, receive());
    if (!message) return std::optional<FileReply>();
    if (message->id != kUnasked) {
        return FileReply{message->id, std::move(message->fd), std::move(message->text), {}, {}};
    }
    return FileReply{kUnasked,
                     std::move(message->fd),
                     {},
                     static_cast<FileRequest::Kind>(message->kind),
                     std::move(message->text)};
}

}  // namespace ppdsm
