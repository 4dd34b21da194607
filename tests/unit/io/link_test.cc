// Goal: only peers that trust each other exchange a message, and no other connection keeps them
// from it. Method: real sockets on loopback, real keys; strangers, garbage and silence from
// outside.
#include "dsm/io/link.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <chrono>
#include <filesystem>
#include <set>

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

class LinkTest : public testing::Test {
protected:
    LinkTest()
        : directory_(fs::temp_directory_path() / ("ppdsm-link-" + std::to_string(::getpid()))) {
        fs::create_directories(directory_);
    }
    ~LinkTest() override { fs::remove_all(directory_); }

    struct Peer {
        PeerKey key;
        TlsContext tls;
        std::set<PublicKey> trusted;
    };
    std::unique_ptr<Peer> make_peer(const std::string& name) {
        PeerKey key = PeerKey::load_or_create(directory_ / name).value();
        TlsContext tls = TlsContext::create(key).value();
        return std::make_unique<Peer>(Peer{std::move(key), std::move(tls), {}});
    }
    static TlsSession::Judge judge_of(Peer& peer) {
        return [&peer](const PublicKey& key, LinkPurpose) -> Status {
            if (peer.trusted.contains(key)) return {};
            return fail(Code::kInvalid, key.id().to_string() + " is not on the allow list");
        };
    }
    std::unique_ptr<LinkListener> listen(Peer& peer) {
        auto listener = LinkListener::listen(loop_, peer.tls, {"127.0.0.1", "0"}, judge_of(peer),
                                             [this](std::unique_ptr<Link> link) {
                                                 link->listen(accepted_callbacks_);
                                                 accepted_.push_back(std::move(link));
                                             });
        EXPECT_TRUE(listener) << listener.error().message();
        return *std::move(listener);
    }
    std::unique_ptr<Link> connect(Peer& peer, std::uint16_t port) {
        return Link::connect(loop_, peer.tls, {"127.0.0.1", std::to_string(port)},
                             LinkPurpose::kMember, judge_of(peer));
    }
    template <typename Done>
    bool run_until(Done done) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!done() && std::chrono::steady_clock::now() < deadline) {
            uv_run(loop_.get(), UV_RUN_ONCE);
        }
        return done();
    }
    static int plain_connection(std::uint16_t port) {
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        return fd;
    }

    fs::path directory_;
    Loop loop_;
    Timer heartbeat_{loop_, [] {}};
    Link::Callbacks accepted_callbacks_;
    std::vector<std::unique_ptr<Link>> accepted_;

    void SetUp() override { heartbeat_.start(20, 20); }
};

TEST_F(LinkTest, PeersThatTrustEachOtherExchangeFrames) {
    auto a = make_peer("a");
    auto b = make_peer("b");
    a->trusted = {b->key.public_key()};
    b->trusted = {a->key.public_key()};
    std::string heard;
    accepted_callbacks_.on_frame = [&](const Frame& frame) -> Status {
        accepted_.front()->send(Priority::kControl, MessageType::kHello, frame.correlation,
                                as_bytes("and you?"));
        heard += as_text(frame.payload);
        return {};
    };
    const auto listener = listen(*b);
    auto link = connect(*a, listener->port());
    std::uint64_t answered = 0;
    link->listen({.on_open =
                      [&] {
                          link->send(Priority::kControl, MessageType::kHello, 42,
                                     as_bytes("how are you?"));
                      },
                  .on_frame = [&](const Frame& frame) -> Status {
                      answered = frame.correlation;
                      return {};
                  }});
    ASSERT_TRUE(run_until([&] { return answered != 0; }));
    EXPECT_EQ(heard, "how are you?");
    EXPECT_EQ(answered, 42U);
    EXPECT_EQ(link->peer(), b->key.id());
    EXPECT_EQ(accepted_.front()->peer(), a->key.id());
}

TEST_F(LinkTest, AnUnknownKeyIsRefusedByEitherSideAndNamed) {
    auto a = make_peer("a");
    auto b = make_peer("b");
    const auto listener = listen(*b);
    for (const bool server_trusts : {false, true}) {
        a->trusted.clear();
        b->trusted.clear();
        (server_trusts ? b : a)->trusted.insert((server_trusts ? a : b)->key.public_key());
        bool opened = false;
        std::optional<Error> why;
        auto link = connect(*a, listener->port());
        link->listen({.on_open = [&] { opened = true; },
                      .on_closed = [&](const Error& error, bool) { why = error; }});
        ASSERT_TRUE(run_until([&] { return why.has_value(); }));
        EXPECT_FALSE(opened);
        EXPECT_TRUE(accepted_.empty());
        const char* expected = server_trusts ? "is not on the allow list" : "refused our key";
        EXPECT_NE(why->message().find(expected), std::string::npos) << why->message();
        if (!server_trusts) {
            EXPECT_NE(why->message().find("ppdsm peer invite"), std::string::npos);
            ASSERT_TRUE(run_until([&] { return listener->refusals() > 0; }));
            EXPECT_NE(listener->last_refusal().find(a->key.id().to_string()), std::string::npos);
        }
    }
}

TEST_F(LinkTest, AProcessThatIsGoneIsToldFromAHostThatIsSilent) {
    auto a = make_peer("a");
    std::uint16_t port = 0;
    {
        auto b = make_peer("b");
        port = listen(*b)->port();
    }
    bool was_refused = false;
    bool closed = false;
    auto link = connect(*a, port);
    link->listen({.on_closed = [&](const Error&, bool refused) {
        closed = true;
        was_refused = refused;
    }});
    ASSERT_TRUE(run_until([&] { return closed; }));
    EXPECT_TRUE(was_refused);
}

TEST_F(LinkTest, IdleConnectionsAndGarbageKeepNobodyOut) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    auto a = make_peer("a");
    auto b = make_peer("b");
    a->trusted = {b->key.public_key()};
    b->trusted = {a->key.public_key()};
    std::size_t frames = 0;
    accepted_callbacks_.on_frame = [&](const Frame&) -> Status {
        ++frames;
        return {};
    };
    const auto listener = listen(*b);
    auto early = connect(*a, listener->port());
    bool is_open = false;
    early->listen({.on_open = [&] { is_open = true; }});
    ASSERT_TRUE(run_until([&] { return is_open; }));
    std::vector<OwnedFd> strangers;
    for (int i = 0; i < 1000; ++i) {
        strangers.emplace_back(plain_connection(listener->port()));
        if (i % 3 == 0) (void)!::write(strangers.back().get(), "GET / HTTP/1.0\r\n\r\n", 18);
        uv_run(loop_.get(), UV_RUN_NOWAIT);
    }
    auto late = connect(*a, listener->port());
    late->listen({.on_open = [&] {
        early->send(Priority::kControl, MessageType::kHello, 0, {});
        late->send(Priority::kControl, MessageType::kHello, 0, {});
    }});
    EXPECT_TRUE(run_until([&] { return frames == 2; }));
}

TEST_F(LinkTest, ControlOvertakesBulkAndEverythingArrives) {
    auto a = make_peer("a");
    auto b = make_peer("b");
    a->trusted = {b->key.public_key()};
    b->trusted = {a->key.public_key()};
    constexpr int kBulk = 200;
    std::uint64_t bulk_bytes = 0;
    int bulk_before_control = -1;
    int bulk_seen = 0;
    accepted_callbacks_.on_frame = [&](const Frame& frame) -> Status {
        if (frame.type == MessageType::kHello) bulk_before_control = bulk_seen;
        if (frame.type == MessageType::kPiece) {
            ++bulk_seen;
            bulk_bytes += frame.payload.size();
        }
        return {};
    };
    const auto listener = listen(*b);
    auto link = connect(*a, listener->port());
    const Bytes payload(std::size_t{256} << 10, 5);
    link->listen({.on_open = [&] {
        for (int i = 0; i < kBulk; ++i) {
            link->send(Priority::kBulk, MessageType::kPiece, 0, payload);
        }
        link->send(Priority::kControl, MessageType::kHello, 0, {});
    }});
    ASSERT_TRUE(run_until([&] { return bulk_seen == kBulk; }));
    EXPECT_EQ(bulk_bytes, kBulk * payload.size());
    EXPECT_GE(bulk_before_control, 0);
    EXPECT_LT(bulk_before_control, kBulk / 4);
}

TEST_F(LinkTest, ALinkMayBeDestroyedByWhatItCalls) {
    auto a = make_peer("a");
    auto b = make_peer("b");
    a->trusted = {b->key.public_key()};
    b->trusted = {a->key.public_key()};
    accepted_callbacks_.on_frame = [&](const Frame&) -> Status {
        accepted_.clear();
        return {};
    };
    const auto listener = listen(*b);
    auto link = connect(*a, listener->port());
    bool closed = false;
    link->listen({.on_open =
                      [&] {
                          for (int i = 0; i < 3; ++i) {
                              link->send(Priority::kControl, MessageType::kHello, 0, {});
                          }
                      },
                  .on_closed =
                      [&](const Error&, bool) {
                          closed = true;
                          link.reset();
                      }});
    ASSERT_TRUE(run_until([&] { return closed; }));
    EXPECT_TRUE(accepted_.empty());
}

TEST(Endpoint, IsReadAsPeopleWriteIt) {
    EXPECT_EQ(Endpoint::parse("host:80").value().host, "host");
    EXPECT_EQ(Endpoint::parse("[::1]:80").value().host, "::1");
    EXPECT_EQ(Endpoint::parse("[::1]:80").value().to_string(), "[::1]:80");
    for (const char* wrong : {"", "host", "host:", ":80", "host:http", "host:70000"}) {
        EXPECT_FALSE(Endpoint::parse(wrong)) << wrong;
    }
}

TEST_F(LinkTest, AKeyThatOthersMayReadOrThatIsDamagedIsRefused) {
    make_peer("k");
    fs::permissions(directory_ / "k", fs::perms(0644));
    EXPECT_EQ(PeerKey::load_or_create(directory_ / "k").error().code(), Code::kInvalid);
    ASSERT_TRUE(replace_file(directory_ / "k", as_bytes("no key"), 0600));
    EXPECT_EQ(PeerKey::load_or_create(directory_ / "k").error().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace ppdsm
