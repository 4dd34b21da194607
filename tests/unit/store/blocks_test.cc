// Goal: blocks move from store to store unchanged and unread, and a reader sees what a writer in
// another process does. Method: two stores, requests of every kind; a reader that is refreshed
// between random steps of a writer.
#include <fcntl.h>

#include "criu-glue/store/stored_block.h"
#include "tests/unit/store/store_fixture.h"

namespace ppdsm {
namespace {

using testing_store::kPage;
using testing_store::noise;
using testing_store::prose;

class BlocksTest : public testing_store::StoreFixture {
protected:
    [[nodiscard]] std::unique_ptr<ChunkStore> other() const {
        return std::move(*ChunkStore::open(home_ / "other", ChunkStore::Mode::kWrite));
    }

    /// Copies blocks that are whole, and tells how many; what is not is returned.
    static std::vector<ChunkId> copy_whole(ChunkStore& from, ChunkStore& into,
                                           const std::vector<ChunkId>& ids, std::size_t& copied) {
        std::vector<ChunkId> rest;
        std::vector<ChunkId> missing;
        for (const auto& share : from.group_by_block(ids, missing)) {
            if (!share.whole) {
                rest.insert(rest.end(), share.ids.begin(), share.ids.end());
                continue;
            }
            const StoredBlock block = from.stored_block(share).value();
            EXPECT_EQ(block.stored.size(), share.stored_bytes);
            Bytes raw;
            const auto names = unpack_block(block.view(), raw).value();
            EXPECT_EQ(names, share.ids);
            EXPECT_TRUE(into.put_block(block.view(), names, raw));
            ++copied;
        }
        EXPECT_TRUE(missing.empty());
        return rest;
    }
};

TEST_F(BlocksTest, WholeBlocksMoveAsTheyAre) {
    const auto store = open();
    std::vector<ChunkId> ids;
    for (std::uint64_t i = 0; i < 64; ++i) {
        ids.push_back(store->put(i < 32 ? noise(kPage, i) : prose(kPage, i)).value());
    }
    for (std::uint64_t i = 0; i < 300; ++i) ids.push_back(store->put(noise(256, 1000 + i)).value());
    ASSERT_TRUE(store->flush());
    // Names twice and in any order: each chunk counts once.
    std::vector<ChunkId> asked = ids;
    asked.insert(asked.end(), ids.begin(), ids.end());
    std::ranges::shuffle(asked, std::mt19937_64(1));
    const auto into = other();
    std::size_t copied = 0;
    EXPECT_TRUE(copy_whole(*store, *into, asked, copied).empty());
    EXPECT_EQ(copied, 6U);  // 4 of pages, 2 of short chunks.
    const auto check = [&] {
        for (const ChunkId& id : ids) {
            ASSERT_TRUE(into->get(id));
            EXPECT_EQ(*into->get(id), store->get(id).value());
        }
    };
    check();  // While they are pending.
    ASSERT_TRUE(into->flush());
    check();
    EXPECT_EQ(into->usage().stored_bytes, store->usage().stored_bytes);
    EXPECT_TRUE(into->verify({}).value().empty());
    EXPECT_EQ(ChunkStore::open(home_ / "other", ChunkStore::Mode::kRead).value()->usage().chunks,
              ids.size());
}

TEST_F(BlocksTest, PartsAndMissingAreTold) {
    const auto store = open();
    std::vector<ChunkId> ids;
    for (std::uint64_t i = 0; i < 32; ++i) ids.push_back(store->put(noise(kPage, i)).value());
    ASSERT_TRUE(store->flush());
    const ChunkId pending = store->put(noise(kPage, 100)).value();
    std::vector<ChunkId> asked(ids.begin(), ids.begin() + 20);
    asked.push_back(pending);
    asked.push_back(ChunkId::of(noise(kPage, 200)));
    std::vector<ChunkId> missing;
    const auto shares = store->group_by_block(asked, missing);
    ASSERT_EQ(shares.size(), 2U);
    EXPECT_TRUE(shares[0].whole);
    EXPECT_EQ(shares[0].ids, std::vector<ChunkId>(ids.begin(), ids.begin() + 16));
    EXPECT_FALSE(shares[1].whole);
    EXPECT_EQ(shares[1].raw_bytes, 4 * kPage);
    EXPECT_EQ(missing, std::vector<ChunkId>(asked.end() - 2, asked.end()));
    EXPECT_EQ(store->stored_block(shares[1]).error().code(), Code::kInvalid);
}

TEST_F(BlocksTest, KnownChunksAreNotStoredAgain) {
    const auto store = open();
    std::vector<ChunkId> ids;
    for (std::uint64_t i = 0; i < 16; ++i) ids.push_back(store->put(noise(kPage, i)).value());
    ASSERT_TRUE(store->flush());
    const auto into = other();
    ASSERT_TRUE(into->put(noise(kPage, 3)));
    std::size_t copied = 0;
    copy_whole(*store, *into, ids, copied);
    copy_whole(*store, *into, ids, copied);
    EXPECT_EQ(into->usage().chunks, 16U);
    EXPECT_EQ(into->usage().raw_bytes, 16 * kPage);
    ASSERT_TRUE(into->flush());
    EXPECT_TRUE(into->verify({}).value().empty());
    EXPECT_LT(into->usage().stored_bytes, 17 * kPage);
    for (const ChunkId& id : ids) EXPECT_TRUE(into->get(id));
}

TEST_F(BlocksTest, BlockWithTheSameChunkTwiceIsStoredOnce) {
    const Bytes page = noise(kPage, 1);
    Bytes raw;
    for (int i = 0; i < 8; ++i) raw.insert(raw.end(), page.begin(), page.end());
    const StoredBlock block =
        compress_chunks(raw, std::vector<std::uint16_t>(8, std::uint16_t{kPage}));
    Bytes unpacked;
    const auto names = unpack_block(block.view(), unpacked).value();
    const auto store = open();
    ASSERT_TRUE(store->put_block(block.view(), names, unpacked));
    ASSERT_TRUE(store->flush());
    EXPECT_EQ(store->usage().chunks, 1U);
    EXPECT_EQ(store->get(names[0]).value(), page);
}

TEST_F(BlocksTest, AbandonForgetsBlocks) {
    const auto store = open();
    std::vector<ChunkId> ids;
    for (std::uint64_t i = 0; i < 16; ++i) ids.push_back(store->put(noise(kPage, i)).value());
    ASSERT_TRUE(store->flush());
    const auto into = other();
    const ChunkId kept = into->put(noise(kPage, 77)).value();
    ASSERT_TRUE(into->flush());
    std::size_t copied = 0;
    copy_whole(*store, *into, ids, copied);
    into->abandon();
    EXPECT_EQ(into->usage().chunks, 1U);
    EXPECT_TRUE(into->get(kept));
    copy_whole(*store, *into, ids, copied);
    ASSERT_TRUE(into->flush());
    EXPECT_EQ(into->usage().chunks, 17U);
}

TEST_F(BlocksTest, ImpossibleBlocksAreRefused) {
    const Bytes raw = prose(4 * kPage, 1);
    const StoredBlock right =
        compress_chunks(raw, std::vector<std::uint16_t>(4, std::uint16_t{kPage}));
    ASSERT_EQ(right.method, pack::Method::kLz4);
    Bytes out;
    ASSERT_TRUE(unpack_block(right.view(), out));
    const auto refused = [&](const std::function<void(StoredBlock&)>& spoil) {
        StoredBlock block = right;
        spoil(block);
        const auto names = unpack_block(block.view(), out);
        return !names && names.error().code() == Code::kCorrupt;
    };
    EXPECT_TRUE(refused([](StoredBlock& block) { block.lengths_bytes[1] = 0; }));
    EXPECT_TRUE(refused([](StoredBlock& block) { block.lengths_bytes[1] = 4097; }));
    EXPECT_TRUE(refused([](StoredBlock& block) { block.lengths_bytes.pop_back(); }));
    EXPECT_TRUE(refused([](StoredBlock& block) { block.lengths_bytes.clear(); }));
    EXPECT_TRUE(refused([](StoredBlock& block) { block.raw_bytes = 0xFFFFFFFF; }));
    EXPECT_TRUE(refused([](StoredBlock& block) { block.stored.pop_back(); }));
    EXPECT_TRUE(refused([](StoredBlock& block) { block.stored.clear(); }));
    EXPECT_TRUE(refused([](StoredBlock& block) { block.method = pack::Method::kRaw; }));
    EXPECT_TRUE(refused([](StoredBlock& block) {
        block.raw_bytes = 0;
        block.lengths_bytes.clear();
    }));
}

TEST_F(BlocksTest, DamagedBlockIsNotGivenOut) {
    ChunkStore::BlockShare share;
    {
        const auto store = open();
        std::vector<ChunkId> ids;
        for (std::uint64_t i = 0; i < 16; ++i) ids.push_back(store->put(noise(kPage, i)).value());
        ASSERT_TRUE(store->flush());
        std::vector<ChunkId> missing;
        share = store->group_by_block(ids, missing).front();
    }
    const OwnedFd fd = open_file(packs().front(), O_RDWR).value();
    ASSERT_TRUE(write_all_at(fd, Bytes{1, 2, 3}, 5000));
    const auto store = open(ChunkStore::Mode::kRead);
    const auto block = store->stored_block(share);
    ASSERT_FALSE(block);
    EXPECT_EQ(block.error().code(), Code::kCorrupt);
    EXPECT_NE(block.error().message().find("pack-"), std::string::npos) << block.error().message();
    std::vector<ChunkId> missing;
    EXPECT_TRUE(store->group_by_block(share.ids, missing).empty());
    EXPECT_EQ(missing.size(), 16U);
}

TEST_F(BlocksTest, RefreshedReaderSeesWhatTheWriterDid) {
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::filesystem::remove_all(directory_);
        std::mt19937_64 random(seed);
        auto writer = open();
        const auto reader = open(ChunkStore::Mode::kRead);
        ChunkSet live;
        std::uint64_t next = seed * 100000;
        for (int step = 0; step < 60; ++step) {
            switch (random() % 5) {
                case 0: {  // A writer that starts anew may use a removed pack's name again.
                    writer.reset();
                    writer = open();
                    break;
                }
                case 1: {
                    std::erase_if(live, [&](const ChunkId&) { return random() % 2 == 0; });
                    ASSERT_TRUE(writer->collect_garbage(live));
                    break;
                }
                default:
                    for (std::uint64_t i = random() % 60; i > 0; --i) {
                        const std::size_t size = random() % 3 == 0 ? 256 : kPage;
                        live.insert(writer->put(noise(size, ++next)).value());
                    }
                    ASSERT_TRUE(writer->flush());
            }
            if (random() % 3 == 0) continue;
            ASSERT_TRUE(reader->refresh());
            EXPECT_TRUE(reader->damaged_packs().empty());
            EXPECT_EQ(reader->usage().chunks, writer->usage().chunks);
            EXPECT_EQ(reader->usage().stored_bytes, writer->usage().stored_bytes);
            for (const ChunkId& id : live) ASSERT_TRUE(reader->get(id));
            if (HasFailure()) return;
        }
    }
}

TEST_F(BlocksTest, RefreshFindsAndForgetsDamage) {
    const auto writer = open();
    const auto reader = open(ChunkStore::Mode::kRead);
    EXPECT_EQ(writer->refresh().error().code(), Code::kInvalid);
    const ChunkId id = writer->put(noise(kPage, 1)).value();
    ASSERT_TRUE(writer->flush());
    const Bytes sound = read_file(packs().front()).value();
    Bytes spoilt = sound;
    spoilt[sound.size() - 10] ^= 1;
    ASSERT_TRUE(replace_file(packs().front(), spoilt));
    ASSERT_TRUE(reader->refresh());
    EXPECT_EQ(reader->damaged_packs().size(), 1U);
    EXPECT_FALSE(reader->contains(id));
    ASSERT_TRUE(replace_file(packs().front(), sound));
    ASSERT_TRUE(reader->refresh());
    EXPECT_TRUE(reader->damaged_packs().empty());
    EXPECT_TRUE(reader->get(id));
}

}  // namespace
}  // namespace ppdsm
