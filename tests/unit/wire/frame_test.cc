// Goal: what arrives from a peer is taken in any pieces and refused for any flaw, by its header
// alone. Method: encoded frames cut everywhere, each field spoiled, random bytes.
#include "dsm/wire/frame.h"

#include <gtest/gtest.h>

#include <random>

namespace ppdsm {
namespace {

std::vector<Frame> read_all(ByteView bytes, std::size_t piece, Status& status) {
    FrameReader reader;
    std::vector<Frame> frames;
    for (std::size_t at = 0; at < bytes.size() && status; at += piece) {
        status = reader.feed(bytes.subspan(at, std::min(piece, bytes.size() - at)),
                             [&](Frame frame) -> Status {
                                 frames.push_back(std::move(frame));
                                 return {};
                             });
    }
    return frames;
}

TEST(FrameReader, GivesWholeFramesHoweverTheyAreCut) {
    Bytes stream = encode_frame(MessageType::kHello, 7, as_bytes("hello"));
    const Bytes empty = encode_frame(MessageType::kGossip, 0, {});
    stream.insert(stream.end(), empty.begin(), empty.end());
    const Bytes last = encode_frame(MessageType::kPiece, ~std::uint64_t{0}, Bytes(1000, 9));
    stream.insert(stream.end(), last.begin(), last.end());
    for (const std::size_t piece :
         {std::size_t{1}, std::size_t{3}, std::size_t{16}, stream.size()}) {
        Status status;
        const std::vector<Frame> frames = read_all(stream, piece, status);
        ASSERT_TRUE(status) << status.error().message();
        ASSERT_EQ(frames.size(), 3U) << piece;
        EXPECT_EQ(as_text(frames[0].payload), "hello");
        EXPECT_EQ(frames[0].correlation, 7U);
        EXPECT_TRUE(frames[1].payload.empty());
        EXPECT_EQ(frames[2].payload, Bytes(1000, 9));
    }
}

TEST(FrameReader, RefusesByTheHeaderAlone) {
    const auto refused = [](std::size_t at, std::uint8_t value, const char* expected) {
        Bytes header = encode_frame(MessageType::kHello, 1, {});
        header.at(at) = value;
        Status status;
        (void)read_all(header, header.size(), status);
        ASSERT_FALSE(status) << expected;
        EXPECT_EQ(status.error().code(), Code::kCorrupt);
        EXPECT_NE(status.error().message().find(expected), std::string::npos)
            << status.error().message();
    };
    refused(3, 0x7F, "a Hello of 2130706432 bytes; at most 16384 are allowed");
    refused(5, 0x7F, "unknown type");
    refused(6, 1, "reserved");
}

TEST(FrameReader, EveryTypeHasANameAndACap) {
    for (const MessageType type : all_message_types()) {
        EXPECT_GT(max_payload_bytes(type), 0U);
        EXPECT_NE(message_name(type), "unknown");
    }
    EXPECT_EQ(max_payload_bytes(static_cast<MessageType>(0)), 0U);
}

TEST(FrameReader, SurvivesRandomBytes) {
    std::mt19937_64 random(20261123);
    for (int round = 0; round < 20'000; ++round) {
        Bytes bytes(random() % 64);
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        Status status;
        (void)read_all(bytes, 1 + random() % 16, status);
    }
}

TEST(Preamble, NamesBothSidesVersionsWhenTheyDoNotMeet) {
    auto preamble = encode_preamble();
    EXPECT_TRUE(check_preamble(preamble));
    preamble[6] = 8;
    preamble[8] = 9;
    const Status newer = check_preamble(preamble);
    ASSERT_FALSE(newer);
    EXPECT_EQ(newer.error().code(), Code::kUnsupported);
    EXPECT_NE(newer.error().message().find("speaks versions 8 to 9"), std::string::npos);
    EXPECT_NE(newer.error().message().find("we speak version 1"), std::string::npos);
    preamble[0] = 'X';
    EXPECT_EQ(check_preamble(preamble).error().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace ppdsm
