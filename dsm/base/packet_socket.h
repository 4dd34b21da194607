// Packets with descriptors beside them, over an AF_UNIX SOCK_SEQPACKET socket, blocking or not as
// the socket is.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

inline constexpr std::size_t kMaxPacketFds = 8;

/// A connected pair, the ends close-on-exec.
Result<std::pair<OwnedFd, OwnedFd>> make_packet_pair();

/// `head` and `body` arrive as one packet. kOverloaded: it would block.
Status send_packet(const OwnedFd& socket, ByteView head, ByteView body,
                   const std::vector<OwnedFd>& fds);

struct Packet {
    Bytes bytes;
    std::vector<OwnedFd> fds;
};
/// kUnavailable: the other end is gone; kOverloaded: it would block; kCorrupt: over `limit_bytes`.
Result<Packet> receive_packet(const OwnedFd& socket, std::size_t limit_bytes);

/// Listens at `path`, which may be longer than a socket's address has room for and is replaced.
Result<OwnedFd> listen_at(const std::filesystem::path& path);
/// kUnavailable: nobody listens there.
Result<OwnedFd> connect_to(const std::filesystem::path& path);

}  // namespace ppdsm
