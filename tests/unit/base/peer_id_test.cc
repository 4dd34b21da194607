// Goal: a peer's name survives being read aloud and typed. Method: known bytes, round trips, and
// every way to mistype.
#include "dsm/base/peer_id.h"

#include <gtest/gtest.h>

namespace ppdsm {
namespace {

PeerId counting() {
    PeerId id;
    for (std::size_t i = 0; i < id.bytes.size(); ++i) {
        id.bytes.at(i) = static_cast<std::uint8_t>(i * 13 + 7);
    }
    return id;
}

TEST(PeerId, IsPrintedInEightGroupsOfFour) {
    EXPECT_EQ(PeerId{}.to_string(), "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaa");
    EXPECT_EQ(PeerId{}.brief(), "aaaa-aaaa");
    PeerId all_ones;
    all_ones.bytes.fill(0xFF);
    EXPECT_EQ(all_ones.to_string(), "7777-7777-7777-7777-7777-7777-7777-7777");
}

TEST(PeerId, IsReadBackAsPrintedWithoutHyphensAndInCapitals) {
    const std::string text = counting().to_string();
    EXPECT_EQ(PeerId::parse(text).value(), counting());
    std::string plain;
    for (const char c : text) {
        if (c != '-') plain += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    EXPECT_EQ(PeerId::parse(plain).value(), counting());
}

TEST(PeerId, RefusesWhatIsTooShortTooLongOrOutOfTheAlphabet) {
    const std::string text = counting().to_string();
    for (const std::string& wrong :
         {std::string(), text.substr(1), text + "a", "1" + text.substr(1), text.substr(0, 20)}) {
        const Result<PeerId> parsed = PeerId::parse(wrong);
        ASSERT_FALSE(parsed) << wrong;
        EXPECT_EQ(parsed.error().code(), Code::kInvalid);
    }
}

}  // namespace
}  // namespace ppdsm
