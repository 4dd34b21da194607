// Goal: a message takes no more memory when it is unpacked than its bytes account for. Method: for
// each way in which FlatBuffers can name the same bytes again and again, a buffer that does; and
// the same content as a builder writes it, which is read.
#include "dsm/wire/codec.h"

#include <gtest/gtest.h>

#include "chunks_generated.h"
#include "messages_generated.h"

namespace ppdsm {
namespace {

using flatbuffers::FlatBufferBuilder;

constexpr std::size_t kTimes = 1000;
const std::string kLong(10'000, 'x');

template <typename Table>
Result<typename Table::NativeTableType> decode(const FlatBufferBuilder& builder) {
    return decode_message<Table>({builder.GetBufferPointer(), builder.GetSize()});
}

TEST(Codec, RefusesATableWhoseLayoutEndsBeforeItsSize) {
    for (const std::uint8_t layout_bytes : Bytes{0, 2}) {
        // The root's offset; the table, whose layout lies 8 bytes behind it; then the layout.
        const Bytes message = {4, 0, 0, 0, 0xf8, 0xff, 0xff, 0xff, 0, 0, 0, 0, layout_bytes, 0, 0};
        EXPECT_FALSE(decode_message<wire::Gossip>(message)) << int{layout_bytes};
    }
}

TEST(Codec, RefusesATableThatIsNamedAgainAndAgain) {
    FlatBufferBuilder builder;
    const auto name = builder.CreateString(kLong);
    const auto member = wire::CreateMember(builder, 0, 0, 0, 0, name);
    const auto members = builder.CreateVector(std::vector(kTimes, member));
    builder.Finish(wire::CreateGossip(builder, 0, 0, 0, members));
    const auto gossip = decode<wire::Gossip>(builder);
    ASSERT_FALSE(gossip);
    EXPECT_EQ(gossip.error().code(), Code::kCorrupt);
}

TEST(Codec, RefusesTablesThatShareAString) {
    FlatBufferBuilder builder;
    const auto name = builder.CreateString(kLong);
    std::vector<flatbuffers::Offset<wire::Member>> members;
    members.reserve(kTimes);
    for (std::size_t i = 0; i < kTimes; ++i) {
        members.push_back(wire::CreateMember(builder, 0, i, 0, 0, name));
    }
    builder.Finish(wire::CreateGossip(builder, 0, 0, 0, builder.CreateVector(members)));
    EXPECT_FALSE(decode<wire::Gossip>(builder));
}

TEST(Codec, RefusesAStringThatIsNamedAgainAndAgain) {
    FlatBufferBuilder builder;
    const auto address = builder.CreateString(kLong);
    const auto addresses = builder.CreateVector(std::vector(kTimes, address));
    builder.Finish(wire::CreateHello(builder, 0, 0, 0, addresses));
    EXPECT_FALSE(decode<wire::Hello>(builder));
}

TEST(Codec, RefusesTablesThatShareNumbers) {
    FlatBufferBuilder builder;
    const auto lengths = builder.CreateVector(std::vector<std::uint16_t>(kLong.size(), 1));
    const auto stored = builder.CreateVector(std::vector<std::uint8_t>{1});
    std::vector<flatbuffers::Offset<wire::ChunkBlock>> blocks;
    blocks.reserve(kTimes);
    for (std::size_t i = 0; i < kTimes; ++i) {
        blocks.push_back(wire::CreateChunkBlock(builder, 0, 1, lengths, stored));
    }
    builder.Finish(wire::CreateChunkBatch(builder, builder.CreateVector(blocks)));
    EXPECT_FALSE(
        is_sound_message<wire::ChunkBatch>({builder.GetBufferPointer(), builder.GetSize()}));
}

TEST(Codec, ReadsWhatABuilderWrites) {
    wire::GossipT gossip;
    for (std::size_t i = 0; i < kTimes; ++i) {
        auto& member = gossip.members.emplace_back(std::make_unique<wire::MemberT>());
        member->name = "the same";
        member->addresses = {"", "the same", "the same"};
        member->advert = {1, 2, 3};
    }
    const Result<wire::GossipT> read =
        decode_message<wire::Gossip>(encode_message<wire::Gossip>(gossip));
    ASSERT_TRUE(read) << read.error().message();
    ASSERT_EQ(read->members.size(), kTimes);
    EXPECT_EQ(read->members.back()->addresses, gossip.members.back()->addresses);
    EXPECT_TRUE(decode_message<wire::Hello>(encode_message<wire::Hello>({})));
}

}  // namespace
}  // namespace ppdsm
