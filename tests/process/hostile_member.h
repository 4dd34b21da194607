// What a test needs to misbehave towards a daemon: connections that say nothing or rubbish, and one
// that holds a member's key and speaks TLS as the member would, but says what the test wants.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "dsm/base/owned_fd.h"
#include "dsm/io/tls_session.h"
#include "dsm/wire/frame.h"

namespace ppdsm::process_test {

/// `address`: "127.0.0.1:PORT". Not valid when nobody listens there.
inline OwnedFd connect_plainly(const std::string& address) {
    OwnedFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port =
        htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) socket.reset();
    return socket;
}

class HostileMember {
public:
    /// With the key in that daemon's home. Whether the other side took it shows when it answers.
    HostileMember(const std::filesystem::path& home, const std::string& address)
        : key_(PeerKey::load_or_create(home / "identity.pem")),
          context_(TlsContext::create(*key_)),
          socket_(connect_plainly(address)),
          session_(*TlsSession::create(*context_, TlsSession::Role::kConnects, LinkPurpose::kMember,
                                       [](const PublicKey&, LinkPurpose) { return Status(); })) {
        while (!session_->is_open() && read_some()) {
        }
    }
    [[nodiscard]] bool is_open() const { return session_->is_open(); }
    [[nodiscard]] const std::string& heard() const { return heard_; }
    void say(ByteView plain) {
        (void)session_->send(plain);
        flush();
    }
    /// The frame that answers the request of that number; nothing when none comes in time.
    std::optional<Frame> answer_to(std::uint64_t correlation) {
        std::optional<Frame> found;
        while (!found) {
            FrameReader reader;
            const ByteView all = as_bytes(heard_);
            if (all.size() > kPreambleBytes) {
                (void)reader.feed(all.subspan(kPreambleBytes), [&](Frame frame) -> Status {
                    if (frame.correlation == correlation) found = std::move(frame);
                    return {};
                });
            }
            if (!found && !read_some()) break;
        }
        return found;
    }
    /// Whether the other side ends the connection, before the deadline.
    bool is_refused() {
        while (read_some()) {
        }
        return ended_;
    }

private:
    static constexpr int kPatienceMs = 20'000;

    void flush() {
        const std::size_t size = session_->take_wire(wire_);
        std::size_t done = 0;
        while (done < size) {
            const ssize_t sent =
                ::send(socket_.get(), wire_.data() + done, size - done, MSG_NOSIGNAL);
            if (sent <= 0) return;
            done += static_cast<std::size_t>(sent);
        }
    }
    /// False at the connection's end, or when nothing comes any more.
    bool read_some() {
        flush();
        pollfd wait{socket_.get(), POLLIN, 0};
        if (::poll(&wait, 1, kPatienceMs) <= 0) return false;
        Bytes bytes(std::size_t{64} << 10);
        const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
        const auto take = [this](ByteView plain) -> Status {
            heard_.append(reinterpret_cast<const char*>(plain.data()), plain.size());
            return {};
        };
        ended_ = got <= 0 ||
                 !session_->receive(ByteView(bytes.data(), static_cast<std::size_t>(got)), take);
        return !ended_;
    }

    Result<PeerKey> key_;
    Result<TlsContext> context_;
    OwnedFd socket_;
    std::unique_ptr<TlsSession> session_;
    Bytes wire_;
    std::string heard_;
    bool ended_ = false;
};

}  // namespace ppdsm::process_test
