// Goal: what was flushed is there after reopening, once; what was abandoned is not; garbage goes
// and what is live stays. Method: real stores in a directory of the test's own.
#include "criu-glue/store/chunk_store.h"

#include <fstream>

#include "tests/unit/store/store_fixture.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;
using testing_store::kPage;
using testing_store::noise;
using testing_store::prose;

class ChunkStoreTest : public testing_store::StoreFixture {};

TEST_F(ChunkStoreTest, NameIsTheCanonicalXxh3) {
    // The published XXH3-128 of no bytes.
    EXPECT_EQ(ChunkId::of({}).to_string(), "99aa06d3014798d86001c324468d497f");
}

// The worked example of criu-glue/IMAGE.md, which version 1 must write and read for good.
constexpr std::string_view kExamplePack =
    "505044534d50414b0100000000000000e53f685c4dcb78d468656c6c6ffddc625c55e85595050000"
    "00050000000100000000000000b5e9c1ad071b3e7fc779cfaa5e523818050015e0c1b76d831f1f4e"
    "1a053bb17685432a0000000000000001000000000000000100000000000000050000000000000087"
    "00000000000000505044534d454e44";

TEST_F(ChunkStoreTest, WorkedExampleHoldsByteForByte) {
    Bytes example;
    for (std::size_t i = 0; i < kExamplePack.size(); i += 2) {
        example.push_back(static_cast<std::uint8_t>(
            std::stoi(std::string(kExamplePack.substr(i, 2)), nullptr, 16)));
    }
    const auto store = open();
    const ChunkId id = store->put(as_bytes("hello")).value();
    ASSERT_TRUE(store->flush());
    ASSERT_EQ(packs(), std::vector<fs::path>{directory_ / "pack-0000000000000001.ppk"});
    EXPECT_EQ(read_file(packs()[0]).value(), example);
    EXPECT_EQ(as_text(open(ChunkStore::Mode::kRead)->get(id).value()), "hello");
}

TEST_F(ChunkStoreTest, FlushedChunksSurviveReopening) {
    std::vector<std::pair<ChunkId, Bytes>> kept;
    {
        const auto store = open();
        for (std::uint64_t seed = 0; seed < 200; ++seed) {
            const std::size_t size_bytes = seed % 3 == 0 ? kPage : 1 + seed * 7 % kPage;
            Bytes content = seed % 2 == 0 ? noise(size_bytes, seed) : prose(size_bytes, seed);
            const auto id = store->put(content);
            ASSERT_TRUE(id);
            kept.emplace_back(*id, std::move(content));
        }
        // Readable before the flush too, wherever they are by now.
        for (const auto& [id, content] : kept) EXPECT_EQ(store->get(id).value(), content);
        ASSERT_TRUE(store->flush());
        for (const auto& [id, content] : kept) EXPECT_EQ(store->get(id).value(), content);
    }
    const auto store = open(ChunkStore::Mode::kRead);
    for (const auto& [id, content] : kept) EXPECT_EQ(store->get(id).value(), content);
    EXPECT_EQ(store->usage().chunks, kept.size());
    EXPECT_TRUE(store->verify({}).value().empty());
}

TEST_F(ChunkStoreTest, KnownChunksCostNothing) {
    const auto store = open();
    ASSERT_TRUE(store->put(noise(kPage, 1)));
    ASSERT_TRUE(store->flush());
    const std::uint64_t bytes = store->bytes_written();
    EXPECT_GT(bytes, kPage);
    ASSERT_TRUE(store->put(noise(kPage, 1)));
    ASSERT_TRUE(store->flush());
    EXPECT_EQ(store->bytes_written(), bytes);
    EXPECT_EQ(packs().size(), 1U);
    EXPECT_EQ(store->usage().stored_bytes, fs::file_size(packs()[0]));
}

TEST_F(ChunkStoreTest, AbandonForgetsOnlyWhatWasNotFlushed) {
    const auto store = open();
    const ChunkId kept = store->put(noise(kPage, 1)).value();
    ASSERT_TRUE(store->flush());
    for (std::uint64_t seed = 100; seed < 200; ++seed) ASSERT_TRUE(store->put(noise(kPage, seed)));
    store->abandon();
    EXPECT_FALSE(store->contains(ChunkId::of(noise(kPage, 100))));
    EXPECT_EQ(store->usage().chunks, 1U);
    EXPECT_TRUE(store->get(kept));
    const ChunkId later = store->put(noise(kPage, 150)).value();
    ASSERT_TRUE(store->flush());
    EXPECT_EQ(open(ChunkStore::Mode::kRead)->get(later).value(), noise(kPage, 150));
    EXPECT_EQ(packs().size(), 2U);
}

TEST_F(ChunkStoreTest, RefusesWhatItCannotKeep) {
    {
        const auto store = open();
        EXPECT_EQ(store->put(ByteView{}).error().code(), Code::kInvalid);
        EXPECT_EQ(store->put(noise(kPage + 1, 1)).error().code(), Code::kInvalid);
        const ChunkId absent = ChunkId::of(noise(10, 1));
        const Error error = store->get(absent).error();
        EXPECT_EQ(error.code(), Code::kNotFound);
        EXPECT_NE(error.message().find(absent.to_string()), std::string::npos);
    }
    const auto reader = open(ChunkStore::Mode::kRead);
    EXPECT_EQ(reader->put(noise(10, 1)).error().code(), Code::kInvalid);
    EXPECT_EQ(reader->collect_garbage({}).error().code(), Code::kInvalid);
}

TEST_F(ChunkStoreTest, StrayFilesAreLeftAlone) {
    const ChunkId kept = [&] {
        const auto store = open();
        const ChunkId id = store->put(noise(kPage, 1)).value();
        EXPECT_TRUE(store->flush());
        return id;
    }();
    const std::vector<std::string> strays = {
        "README",  "pack-1.ppk", "pack-00000000000000ZZ.ppk", "pack-00000000000000AB.ppk",
        ".hidden", "core"};
    for (const std::string& name : strays) std::ofstream(directory_ / name) << "not ours";
    fs::create_directory(directory_ / "pack-00000000000000ff.ppk");
    fs::create_symlink("README", directory_ / "pack-00000000000000fe.ppk");
    std::ofstream(directory_ / "pack-0000000000000100.ppk.pending-1") << "left by a kill";
    const auto store = open();
    EXPECT_TRUE(store->damaged_packs().empty());
    EXPECT_TRUE(store->verify({}).value().empty());
    EXPECT_TRUE(store->get(kept));
    ASSERT_TRUE(store->put(noise(kPage, 2)));
    ASSERT_TRUE(store->flush());
    ASSERT_TRUE(store->collect_garbage({}));
    EXPECT_EQ(store->usage().chunks, 0U);
    for (const std::string& name : strays) EXPECT_TRUE(fs::exists(directory_ / name)) << name;
    EXPECT_TRUE(fs::is_directory(directory_ / "pack-00000000000000ff.ppk"));
    EXPECT_FALSE(fs::exists(directory_ / "pack-0000000000000100.ppk.pending-1"));
}

TEST_F(ChunkStoreTest, GarbageGoesAndLiveChunksStay) {
    const auto store = open();
    ChunkSet live;
    for (std::uint64_t pack = 0; pack < 3; ++pack) {  // Wholly dead, a quarter live, wholly live.
        for (std::uint64_t i = 0; i < 64; ++i) {
            const ChunkId id = store->put(noise(kPage, pack * 100 + i)).value();
            if (pack == 2 || (pack == 1 && i % 4 == 0)) live.insert(id);
        }
        ASSERT_TRUE(store->flush());
    }
    const auto before = packs();
    const std::uint64_t written = store->bytes_written();
    ASSERT_TRUE(store->collect_garbage(live));
    EXPECT_EQ(store->bytes_written(), written) << "what GC moves is nothing that was put";
    EXPECT_FALSE(fs::exists(before[0]));
    EXPECT_FALSE(fs::exists(before[1]));
    EXPECT_TRUE(fs::exists(before[2]));
    EXPECT_EQ(store->usage().chunks, live.size());
    for (const ChunkId& id : live) EXPECT_TRUE(store->get(id));
    const auto after = packs();
    ASSERT_TRUE(store->collect_garbage(live));
    EXPECT_EQ(packs(), after) << "a second run finds nothing to do";
    const auto reader = open(ChunkStore::Mode::kRead);
    EXPECT_EQ(reader->usage().chunks, live.size());
    for (const ChunkId& id : live) EXPECT_TRUE(reader->get(id));
    EXPECT_TRUE(reader->verify({}).value().empty());
}

TEST_F(ChunkStoreTest, GarbageCollectionRefusesWhilePutsArePending) {
    const auto store = open();
    ASSERT_TRUE(store->put(noise(kPage, 1)));
    EXPECT_EQ(store->collect_garbage({}).error().code(), Code::kInvalid);
    EXPECT_TRUE(store->contains(ChunkId::of(noise(kPage, 1))));
}

TEST_F(ChunkStoreTest, ManyGenerationsDoNotPileUpPacks) {
    const auto store = open();
    ChunkSet live;
    for (std::uint64_t generation = 0; generation < 300; ++generation) {
        live.insert(store->put(noise(300, generation)).value());
        ASSERT_TRUE(store->flush());
        ASSERT_TRUE(store->collect_garbage(live));
        ASSERT_LE(packs().size(), 65U);
    }
    EXPECT_EQ(open(ChunkStore::Mode::kRead)->usage().chunks, 300U);
    for (const ChunkId& id : live) EXPECT_TRUE(store->get(id));
}

TEST_F(ChunkStoreTest, OldPackThatAKillLeftBesideItsRewriteIsGarbage) {
    ChunkSet live;
    const fs::path saved = home_ / "saved";
    {
        const auto store = open();
        for (std::uint64_t i = 0; i < 64; ++i) {
            const ChunkId id = store->put(noise(kPage, i)).value();
            if (i < 16) live.insert(id);
        }
        ASSERT_TRUE(store->flush());
        fs::copy(directory_, saved);
        ASSERT_TRUE(store->collect_garbage(live));
    }
    fs::copy(saved, directory_);  // The state between "new pack durable" and "old pack removed".
    ASSERT_EQ(packs().size(), 2U);
    const auto store = open();
    EXPECT_EQ(store->usage().chunks, 64U) << "no chunk counts twice";
    ASSERT_TRUE(store->collect_garbage(live));
    EXPECT_EQ(packs().size(), 1U);
    for (const ChunkId& id : live) EXPECT_TRUE(store->get(id));
}

TEST_F(ChunkStoreTest, ReaderOutlivesPacksThatAWriterCollects) {
    const auto writer = open();
    const ChunkId id = writer->put(noise(kPage, 1)).value();
    ASSERT_TRUE(writer->flush());
    const auto reader = open(ChunkStore::Mode::kRead);
    ASSERT_TRUE(writer->collect_garbage({}));
    const Error error = reader->get(id).error();
    EXPECT_EQ(error.code(), Code::kNotFound);
    EXPECT_NE(error.message().find(".ppk"), std::string::npos) << error.message();
}

}  // namespace
}  // namespace ppdsm
