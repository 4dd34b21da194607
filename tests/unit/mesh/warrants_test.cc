// Goal: a warrant says what its deployer signed and nothing else. Method: real keys; one field
// changed at a time.
#include "runtime/peer/mesh/warrants.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace ppdsm {
namespace {

PeerKey new_key() {
    const auto path =
        std::filesystem::path(testing::TempDir()) / ("warrant-key-" + std::to_string(::getpid()));
    PeerKey key = *PeerKey::load_or_create(path);
    std::filesystem::remove(path);
    return key;
}

class WarrantTest : public testing::Test {
protected:
    WarrantTest() { sign_warrant(deployer_, warrant_); }

    PeerKey deployer_ = new_key();
    PeerKey other_ = new_key();
    Warrant warrant_{"aaaabbbb", deployer_.id(), other_.id(), {}};
};

TEST_F(WarrantTest, HoldsAsItWasSigned) {
    ASSERT_NE(deployer_.id(), other_.id());
    EXPECT_TRUE(is_signed(warrant_, deployer_.public_key()));
    const Result<Warrant> again = decode_warrant(encode_warrant(warrant_));
    ASSERT_TRUE(again);
    EXPECT_TRUE(is_signed(*again, deployer_.public_key()));
}

TEST_F(WarrantTest, IsNoneWithAnythingChanged) {
    const auto holds = [&](auto change) {
        Warrant changed = warrant_;
        change(changed);
        return is_signed(changed, deployer_.public_key());
    };
    EXPECT_FALSE(holds([](Warrant& w) { w.vc = "aaaabbbc"; }));
    EXPECT_FALSE(holds([&](Warrant& w) { w.bearer = deployer_.id(); }));
    EXPECT_FALSE(holds([&](Warrant& w) { w.deployer = other_.id(); }));
    EXPECT_FALSE(holds([](Warrant& w) { w.signature[5] ^= 1; }));
    EXPECT_FALSE(holds([](Warrant& w) { w.signature.pop_back(); }));
    EXPECT_FALSE(holds([](Warrant& w) { w.signature.clear(); }));
    EXPECT_FALSE(holds([&](Warrant& w) { sign_warrant(other_, w); })) << "by another's key";
    EXPECT_FALSE(is_signed(warrant_, other_.public_key()));
}

}  // namespace
}  // namespace ppdsm
