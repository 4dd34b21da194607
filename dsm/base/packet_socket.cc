#include "dsm/base/packet_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace ppdsm {

namespace {

constexpr int kBacklog = 64;

iovec part_of(ByteView bytes) { return {const_cast<std::uint8_t*>(bytes.data()), bytes.size()}; }

/// A socket's address has room for 107 bytes: the directory is named through an open descriptor.
sockaddr_un address_in(const OwnedFd& directory, const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name =
        "/proc/self/fd/" + std::to_string(directory.get()) + "/" + path.filename().string();
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
}

void take_fds(msghdr& header, std::vector<OwnedFd>& fds) {
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
         part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
            fds.emplace_back(fd);
        }
    }
}

}  // namespace

Result<std::pair<OwnedFd, OwnedFd>> make_packet_pair() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        return fail_errno("make a socket pair");
    }
    return std::pair(OwnedFd(ends[0]), OwnedFd(ends[1]));
}

Status send_packet(const OwnedFd& socket, ByteView head, ByteView body,
                   const std::vector<OwnedFd>& fds) {
    std::array<iovec, 2> parts{part_of(head), part_of(body)};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxPacketFds * sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    if (!fds.empty()) {
        const std::size_t bytes = fds.size() * sizeof(int);
        if (fds.size() > kMaxPacketFds) return fail(Code::kInvalid, "too many descriptors");
        header.msg_control = control.data();
        header.msg_controllen = CMSG_SPACE(bytes);
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(bytes);
        std::array<int, kMaxPacketFds> numbers{};
        for (std::size_t i = 0; i < fds.size(); ++i) numbers.at(i) = fds[i].get();
        std::memcpy(CMSG_DATA(rights), numbers.data(), bytes);
    }
    while (::sendmsg(socket.get(), &header, MSG_NOSIGNAL) < 0) {
        if (errno == EAGAIN) return fail(Code::kOverloaded, "the socket is full");
        if (errno == EPIPE || errno == ECONNRESET) {
            return fail(Code::kUnavailable, "the other side is gone");
        }
        if (errno != EINTR) return fail_errno("send to the other side");
    }
    return {};
}

Result<Packet> receive_packet(const OwnedFd& socket, std::size_t limit_bytes) {
    Packet packet;
    packet.bytes.resize(limit_bytes);
    iovec part{packet.bytes.data(), packet.bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxPacketFds * sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    ssize_t got = 0;
    while ((got = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC)) < 0) {
        if (errno == EAGAIN) return fail(Code::kOverloaded, "nothing to receive yet");
        // A reset is told once, before what the other side had sent: that is still there.
        if (errno != EINTR && errno != ECONNRESET) return fail_errno("receive from the other side");
    }
    take_fds(header, packet.fds);
    if (got == 0) return fail(Code::kUnavailable, "the other side is gone");
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        return fail(Code::kCorrupt, "a packet over " + std::to_string(limit_bytes) + " bytes");
    }
    packet.bytes.resize(static_cast<std::size_t>(got));
    return packet;
}

Result<OwnedFd> listen_at(const std::filesystem::path& path) {
    PPDSM_ASSIGN(const OwnedFd directory, open_file(path.parent_path(), O_PATH | O_DIRECTORY));
    ::unlink(path.c_str());
    OwnedFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_un address = address_in(directory, path);
    if (!listener.valid() ||
        ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), kBacklog) != 0) {
        return fail_errno("listen at " + path.string());
    }
    return listener;
}

Result<OwnedFd> connect_to(const std::filesystem::path& path) {
    const Result<OwnedFd> directory = open_file(path.parent_path(), O_PATH | O_DIRECTORY);
    if (!directory) return fail(Code::kUnavailable, directory.error().message());
    OwnedFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_in(*directory, path);
    if (!socket.valid()) return fail_errno("make a socket");
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail(Error(Code::kUnavailable, errno, "nobody listens at " + path.string()));
    }
    return socket;
}

}  // namespace ppdsm
