// link_bench MIB ROUNDS: throughput of a link between two peers (TLS 1.3, framed) and of a raw TCP
// connection, over loopback, a thread each end, taking turns. Prints one JSON object a round, in
// GB/s.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "dsm/base/allocator.h"
#include "dsm/base/wall_clock.h"
#include "dsm/io/link.h"

namespace ppdsm {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;

double gigabytes_a_second(std::uint64_t bytes, std::int64_t begun_us) {
    return static_cast<double>(bytes) / 1e3 / static_cast<double>(monotonic_now_us() - begun_us);
}

TlsSession::Judge accept_all() {
    return [](const PublicKey&, LinkPurpose) -> Status { return {}; };
}

/// Sends pieces whenever the link has room, until `bytes` are under way.
void send_all(const TlsContext& tls, std::uint16_t port, std::uint64_t bytes) {
    Loop loop;
    const auto link = Link::connect(loop, tls, {"127.0.0.1", std::to_string(port)},
                                    LinkPurpose::kMember, accept_all());
    const Bytes piece(kPieceBytes, 0x5A);
    std::uint64_t sent_bytes = 0;
    const auto fill = [&] {
        while (sent_bytes < bytes && link->waiting_bytes(Priority::kBulk) < kBulkWindowBytes) {
            link->send(Priority::kBulk, MessageType::kChunks, 0, piece);
            sent_bytes += piece.size();
        }
    };
    link->listen({.on_open = fill, .on_drained = fill, .on_closed = [&](const Error&, bool) {
                      loop.stop();
                  }});
    loop.run();
}

double measure_link(const TlsContext& ours, const TlsContext& theirs, std::uint64_t bytes) {
    Loop loop;
    std::unique_ptr<Link> accepted;
    std::uint64_t got_bytes = 0;
    std::int64_t begun_us = 0;
    double speed = 0;
    const auto on_frame = [&](const Frame& frame) -> Status {
        if (begun_us == 0) begun_us = monotonic_now_us();
        got_bytes += frame.payload.size();
        if (got_bytes < bytes) return {};
        speed = gigabytes_a_second(got_bytes, begun_us);
        loop.stop();
        return {};
    };
    const auto listener = LinkListener::listen(loop, ours, {"127.0.0.1", "0"}, accept_all(),
                                               [&](std::unique_ptr<Link> link) {
                                                   accepted = std::move(link);
                                                   accepted->listen({.on_frame = on_frame});
                                               })
                              .value();
    std::thread sender([&, port = listener->port()] { send_all(theirs, port, bytes); });
    loop.run();
    accepted.reset();  // Which ends the sender's loop.
    sender.join();
    return speed;
}

double measure_tcp(std::uint64_t bytes) {
    const OwnedFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener.get(), raw, size) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), raw, &size) != 0) {
        return 0;
    }
    std::thread sender([&] {
        const OwnedFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (::connect(fd.get(), raw, size) != 0) return;
        const Bytes piece(kPieceBytes, 0x5A);
        for (std::uint64_t sent = 0; sent < bytes; sent += piece.size()) {
            if (!write_all(fd, piece)) return;
        }
    });
    const OwnedFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    Bytes buffer(kPieceBytes);
    std::uint64_t got_bytes = 0;
    std::int64_t begun_us = 0;
    for (ssize_t got = 0; (got = ::read(fd.get(), buffer.data(), buffer.size())) > 0;) {
        if (begun_us == 0) begun_us = monotonic_now_us();
        got_bytes += static_cast<std::uint64_t>(got);
    }
    sender.join();
    return gigabytes_a_second(got_bytes, begun_us);
}

int run(std::uint64_t bytes, int rounds) {
    const std::filesystem::path directory =
        std::filesystem::temp_directory_path() / ("ppdsm-link-bench-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory);
    const auto key = [&](const char* name) {
        return PeerKey::load_or_create(directory / name).value();
    };
    const TlsContext ours = TlsContext::create(key("ours")).value();
    const TlsContext theirs = TlsContext::create(key("theirs")).value();
    std::filesystem::remove_all(directory);
    for (int round = 0; round < rounds; ++round) {
        const double link = measure_link(ours, theirs, bytes);
        const double tcp = measure_tcp(bytes);
        std::printf("{\"link\": %.4f, \"tcp\": %.4f}\n", link, tcp);
    }
    return 0;
}

}  // namespace
}  // namespace ppdsm

int main(int argc, char** argv) {
    ppdsm::keep_freed_memory();
    const std::uint64_t mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 512;
    return ppdsm::run(mib << 20, argc > 2 ? std::atoi(argv[2]) : 5);
}
