// Goal: a full disk costs the checkpoint under way and nothing else. Method: a store on a tmpfs of
// one mebibyte; needs the right to mount.
#include <sys/mount.h>

#include "tests/unit/store/store_fixture.h"

namespace ppdsm {
namespace {

using testing_store::kPage;
using testing_store::noise;

class DiskFullTest : public testing_store::StoreFixture {
protected:
    void SetUp() override {
        StoreFixture::SetUp();
        std::filesystem::create_directory(directory_);
        if (::mount("tmpfs", directory_.c_str(), "tmpfs", 0, "size=1m") != 0) {
            GTEST_SKIP() << "SKIPPED: cannot mount a tmpfs (" << std::strerror(errno)
                         << "); run as root to test a full disk";
        }
        mounted_ = true;
    }
    void TearDown() override {
        if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
        StoreFixture::TearDown();
    }

    static void expect_full(const Error& error) {
        EXPECT_EQ(error.code(), Code::kOverloaded) << error.message();
        EXPECT_EQ(error.errno_value(), ENOSPC) << error.message();
        EXPECT_NE(error.message().find("pack-"), std::string::npos) << error.message();
    }

    bool mounted_ = false;
};

TEST_F(DiskFullTest, FailedGenerationIsAbandonedAndTheStoreGoesOn) {
    const auto store = open();
    const ChunkId kept = store->put(noise(kPage, 1)).value();
    ASSERT_TRUE(store->flush());
    Status failed;
    std::uint64_t seed = 100;
    while (failed && seed < 1000) {
        const Result<ChunkId> id = store->put(noise(kPage, seed++));
        if (!id) failed = fail(id.error());
    }
    ASSERT_FALSE(failed);
    expect_full(failed.error());
    const Status flushed = store->flush();
    ASSERT_FALSE(flushed) << "what failed stays failed until abandon()";
    expect_full(flushed.error());
    store->abandon();
    EXPECT_TRUE(store->get(kept));
    EXPECT_FALSE(store->contains(ChunkId::of(noise(kPage, 100))));
    const ChunkId later = store->put(noise(kPage, 100)).value();
    ASSERT_TRUE(store->flush());
    const auto reader = open(ChunkStore::Mode::kRead);
    EXPECT_TRUE(reader->get(kept));
    EXPECT_TRUE(reader->get(later));
    EXPECT_EQ(reader->usage().chunks, 2U);
    EXPECT_EQ(packs().size(), 2U);
}

TEST_F(DiskFullTest, ParallelStoreFailsTheSameWay) {
    const auto store = open();
    const Result<BlobRef> blob = store_bytes(*store, noise(std::size_t{20} << 20, 1));
    ASSERT_FALSE(blob);
    expect_full(blob.error());
    store->abandon();
    EXPECT_EQ(store->usage().chunks, 0U);
    const Bytes small = noise(100000, 2);
    const BlobRef kept = store_bytes(*store, small).value();
    ASSERT_TRUE(store->flush());
    EXPECT_EQ(load_blob(*open(ChunkStore::Mode::kRead), kept, small.size()).value(), small);
}

TEST_F(DiskFullTest, FullOnlyAtTheEndOfThePack) {
    // Fewer and fewer chunks until the pack fits: on the way the index, then the footer do not.
    const auto store = open();
    bool flushed = false;
    std::size_t failures = 0;
    for (std::size_t chunks = 256; chunks > 200 && !flushed; --chunks) {
        Status status;
        for (std::size_t i = 0; i < chunks && status; ++i) {
            const Result<ChunkId> id = store->put(noise(kPage, i));
            if (!id) status = fail(id.error());
        }
        if (status) status = store->flush();
        flushed = status.has_value();
        if (flushed) break;
        ++failures;
        expect_full(status.error());
        store->abandon();
        EXPECT_EQ(store->usage().chunks, 0U);
        EXPECT_TRUE(packs().empty());
    }
    EXPECT_TRUE(flushed);
    EXPECT_GT(failures, 0U);
}

TEST_F(DiskFullTest, GarbageMakesRoomOnAFullDisk) {
    const auto store = open();
    ChunkSet live;
    for (std::uint64_t pack = 0; pack < 2; ++pack) {
        for (std::uint64_t i = 0; i < 100; ++i) {
            const ChunkId id = store->put(noise(kPage, pack * 1000 + i)).value();
            if (pack == 1 && i < 40) live.insert(id);
        }
        ASSERT_TRUE(store->flush());
    }
    ASSERT_FALSE(store_bytes(*store, noise(std::size_t{1} << 20, 9)));
    store->abandon();
    ASSERT_TRUE(store->collect_garbage(live));
    EXPECT_EQ(packs().size(), 1U);
    for (const ChunkId& id : live) EXPECT_TRUE(store->get(id));
}

TEST_F(DiskFullTest, RewritingThatDoesNotFitLeavesAllAsItWas) {
    const auto store = open();
    ChunkSet live;
    for (std::uint64_t i = 0; i < 220; ++i) {
        const ChunkId id = store->put(noise(kPage, i)).value();
        if (i < 100) live.insert(id);
    }
    ASSERT_TRUE(store->flush());
    const auto before = packs();
    const Status collected = store->collect_garbage(live);
    ASSERT_FALSE(collected);
    expect_full(collected.error());
    EXPECT_EQ(packs(), before);
    EXPECT_EQ(store->usage().chunks, 220U);
    for (const ChunkId& id : live) EXPECT_TRUE(store->get(id));
}

}  // namespace
}  // namespace ppdsm
