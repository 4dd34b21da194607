// Goal: a peer that is trusted and says what no peer of ours says loses its link, and nobody else
// anything. Method: a real Mesh on loopback, and a bare link with a trusted key.
#include <gtest/gtest.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <chrono>

#include "runtime/peer/mesh/gossip_codec.h"
#include "runtime/peer/mesh/mesh.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

class OddPeerTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "ppdsm-mesh-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        fs::create_directory(directory_ / "mesh");
        key_.emplace(PeerKey::load_or_create(directory_ / "odd.pem").value());
        tls_.emplace(TlsContext::create(*key_).value());
        auto trust = Trust::open(directory_ / "mesh" / "trust.json").value();
        ASSERT_TRUE(trust.add(key_->public_key(), "odd", key_->id()));
        auto log = std::make_shared<spdlog::logger>(
            "mesh", std::make_shared<spdlog::sinks::null_sink_mt>());
        auto mesh = Mesh::start(
            loop_, {directory_ / "mesh", "sound", {"127.0.0.1", "0"}, {}, std::move(log)});
        ASSERT_TRUE(mesh) << mesh.error().message();
        mesh_ = *std::move(mesh);
    }
    void TearDown() override {
        mesh_.reset();
        fs::remove_all(directory_);
    }

    /// Says each of `hellos` as soon as it is connected.
    std::unique_ptr<Link> call(std::vector<Member> hellos) {
        auto link = Link::connect(loop_, *tls_, Endpoint::parse(mesh_->addresses().front()).value(),
                                  LinkPurpose::kMember,
                                  [](const PublicKey&, LinkPurpose) { return Status(); });
        link->listen({.on_open =
                          [link = link.get(), hellos = std::move(hellos)] {
                              for (const Member& hello : hellos) {
                                  link->send(Priority::kControl, MessageType::kHello, 0,
                                             encode_hello(hello));
                              }
                          },
                      .on_closed = [this](const Error&, bool) { ++closed_; }});
        return link;
    }
    template <typename Done>
    bool run_until(Done done) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!done() && std::chrono::steady_clock::now() < deadline) {
            uv_run(loop_.get(), UV_RUN_ONCE);
        }
        return done();
    }

    fs::path directory_;
    Loop loop_;
    Timer heartbeat_{loop_, [] {}};
    std::optional<PeerKey> key_;
    std::optional<TlsContext> tls_;
    std::unique_ptr<Mesh> mesh_;
    int closed_ = 0;
};

TEST_F(OddPeerTest, WhoSaysHelloTwiceLosesTheLinkAndMayComeBack) {
    heartbeat_.start(10, 10);
    Member odd;
    odd.id = key_->id();
    odd.instance = 1;
    auto twice = call({odd, odd});
    ASSERT_TRUE(run_until([&] { return closed_ == 1; }));
    ASSERT_TRUE(run_until([&] { return !mesh_->is_linked(key_->id()); }));
    auto once = call({odd});
    EXPECT_TRUE(run_until([&] { return mesh_->is_linked(key_->id()); }));
    EXPECT_EQ(closed_, 1);
}

TEST_F(OddPeerTest, AddressesThatAreNoTextAreNotKept) {
    heartbeat_.start(10, 10);
    Member odd;
    odd.id = key_->id();
    odd.instance = 1;
    odd.addresses = {"\xFF\xFE:1", "127.0.0.1:1"};
    auto link = call({odd});
    ASSERT_TRUE(run_until([&] { return mesh_->is_linked(key_->id()); }));
    ASSERT_NE(mesh_->find(key_->id()), nullptr);
    EXPECT_EQ(mesh_->find(key_->id())->addresses, std::vector<std::string>{"127.0.0.1:1"});
    EXPECT_TRUE(fs::exists(directory_ / "mesh" / "peers.json"));
}

/// Called back in between, two peers that replace each other's links would do so for ever.
TEST_F(OddPeerTest, WhoComesAgainReplacesItsLinkAndIsNotCalledBack) {
    heartbeat_.start(10, 10);
    int called = 0;
    const auto listener = LinkListener::listen(
                              loop_, *tls_, {"127.0.0.1", "0"},
                              [&](const PublicKey&, LinkPurpose) {
                                  ++called;
                                  return Status();
                              },
                              [](const std::unique_ptr<Link>&) {})
                              .value();
    Member odd;
    odd.id = key_->id();
    odd.instance = 1;
    odd.addresses = {"127.0.0.1:" + std::to_string(listener->port())};
    std::vector<std::unique_ptr<Link>> links;
    links.push_back(call({odd}));
    ASSERT_TRUE(run_until([&] { return mesh_->is_linked(odd.id); }));
    for (int replaced = 1; replaced <= 10; ++replaced) {
        links.push_back(call({odd}));
        ASSERT_TRUE(run_until([&] { return closed_ == replaced; }));
        EXPECT_TRUE(mesh_->is_linked(odd.id));
    }
    EXPECT_EQ(called, 0);
}

}  // namespace
}  // namespace ppdsm
