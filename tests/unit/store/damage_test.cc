// Goal: no changed, missing or added byte of a pack goes unnoticed, and wrong bytes are never
// returned. Method: a small pack, each byte of it flipped in turn, cut at every length; then packs
// whose checksums are right but whose numbers are not.
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <map>

#include "tests/unit/store/store_fixture.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;
using testing_store::kPage;
using testing_store::noise;
using testing_store::prose;

constexpr std::size_t kFooterBytes = 64;

class DamageTest : public testing_store::StoreFixture {
protected:
    void SetUp() override {
        StoreFixture::SetUp();
        const auto store = open();
        // Both streams, compressed and not.
        for (Bytes content : {prose(kPage, 1), prose(300, 2), noise(40, 3), noise(1, 4)}) {
            const ChunkId id = store->put(content).value();
            chunks_.emplace(id, std::move(content));
        }
        ASSERT_TRUE(store->flush());
        pack_ = packs().at(0);
        sound_ = read_file(pack_).value();
    }

    void write_pack(ByteView bytes) const {
        const OwnedFd fd = open_file(pack_, O_WRONLY | O_TRUNC).value();
        ASSERT_TRUE(write_all(fd, bytes));
    }

    /// How many chunks cannot be read; what can be read must be right.
    std::size_t unreadable(ChunkStore& store) const {
        std::size_t count = 0;
        for (const auto& [id, content] : chunks_) {
            const Result<Bytes> got = store.get(id);
            if (got) {
                EXPECT_EQ(*got, content) << "wrong bytes were returned";
            } else {
                ++count;
            }
        }
        return count;
    }

    /// Sets the checksums right, as one who forges would.
    static void seal(Bytes& pack) {
        std::uint8_t* const footer = pack.data() + pack.size() - kFooterBytes;
        std::uint64_t index_bytes = 0;
        std::memcpy(&index_bytes, footer + 16, 8);
        if (index_bytes <= pack.size() - kFooterBytes) {
            const std::uint64_t index = XXH3_64bits(footer - index_bytes, index_bytes);
            std::memcpy(footer + 8, &index, 8);
        }
        const std::uint64_t own = XXH3_64bits(footer + 8, kFooterBytes - 8);
        std::memcpy(footer, &own, 8);
    }

    std::map<ChunkId, Bytes> chunks_;
    fs::path pack_;
    Bytes sound_;
};

TEST_F(DamageTest, EveryFlippedByteIsFound) {
    const auto early = open(ChunkStore::Mode::kRead);  // Opened before the damage.
    for (std::size_t at = 0; at < sound_.size(); ++at) {
        for (const unsigned mask : {1U << (at % 8), 0xFFU}) {
            Bytes changed = sound_;
            changed[at] = static_cast<std::uint8_t>(changed[at] ^ mask);
            write_pack(changed);
            const auto store = open(ChunkStore::Mode::kRead);
            EXPECT_GT(unreadable(*store), 0U) << "byte " << at;
            const auto found = store->verify({}).value();
            ASSERT_FALSE(found.empty()) << "byte " << at;
            EXPECT_EQ(found[0].pack, pack_);
            EXPECT_FALSE(found[0].what.empty());
            EXPECT_FALSE(early->verify({}).value().empty()) << "byte " << at;
        }
    }
    write_pack(sound_);
    EXPECT_TRUE(open()->verify({}).value().empty());
    EXPECT_EQ(unreadable(*open()), 0U);
}

TEST_F(DamageTest, EveryTruncationIsFound) {
    const auto early = open(ChunkStore::Mode::kRead);
    for (std::size_t size_bytes = 0; size_bytes < sound_.size(); ++size_bytes) {
        write_pack(ByteView(sound_).first(size_bytes));
        const auto store = open(ChunkStore::Mode::kRead);
        ASSERT_EQ(store->damaged_packs().size(), 1U) << size_bytes;
        EXPECT_EQ(unreadable(*store), chunks_.size()) << size_bytes;
        EXPECT_EQ(store->verify({}).value().size(), 1U);
        EXPECT_FALSE(early->verify({}).value().empty()) << size_bytes;
    }
    Bytes longer = sound_;
    longer.push_back(0);
    write_pack(longer);
    EXPECT_EQ(open(ChunkStore::Mode::kRead)->damaged_packs().size(), 1U);
}

TEST_F(DamageTest, MissingPackIsNamedWithItsChunks) {
    const auto store = open(ChunkStore::Mode::kRead);
    fs::remove(pack_);
    const auto found = store->verify({}).value();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].pack, pack_);
    EXPECT_EQ(found[0].chunks.size(), chunks_.size());
    EXPECT_EQ(unreadable(*store), chunks_.size());
}

TEST_F(DamageTest, VerifyNamesTheChunksOfADamagedBlock) {
    Bytes changed = sound_;
    changed[24] ^= 1U;  // The first block: the one of short or of full-size chunks.
    write_pack(changed);
    const auto store = open(ChunkStore::Mode::kRead);
    std::uint64_t last_done = 0;
    std::uint64_t total = 0;
    const auto found = store
                           ->verify([&](std::uint64_t done_bytes, std::uint64_t all_bytes) {
                               EXPECT_GE(done_bytes, last_done);
                               last_done = done_bytes;
                               total = all_bytes;
                           })
                           .value();
    EXPECT_EQ(last_done, sound_.size());
    EXPECT_EQ(total, sound_.size());
    ASSERT_EQ(found.size(), 1U);
    EXPECT_NE(found[0].what.find("block at 24"), std::string::npos) << found[0].what;
    EXPECT_EQ(found[0].chunks.size(), unreadable(*store));
    for (const ChunkId& id : found[0].chunks) {
        const Error error = store->get(id).error();
        EXPECT_EQ(error.code(), Code::kCorrupt);
        EXPECT_NE(error.message().find(id.to_string()), std::string::npos) << error.message();
        EXPECT_NE(error.message().find(pack_.string()), std::string::npos) << error.message();
    }
}

TEST_F(DamageTest, DamagedChunksAreStoredAnew) {
    for (const bool by_verify : {false, true}) {
        Bytes changed = sound_;
        changed[24] ^= 1U;
        write_pack(changed);
        const auto store = open();
        if (by_verify) {
            ASSERT_FALSE(store->verify({}).value().empty());
        } else {
            ASSERT_GT(unreadable(*store), 0U);
        }
        for (const auto& [id, content] : chunks_) ASSERT_TRUE(store->put(content));
        EXPECT_EQ(unreadable(*store), 0U);
        store->abandon();
        EXPECT_GT(unreadable(*store), 0U) << "abandon() forgets the new copies";
        for (const auto& [id, content] : chunks_) ASSERT_TRUE(store->put(content));
        ASSERT_TRUE(store->flush());
        EXPECT_EQ(unreadable(*store), 0U);
        EXPECT_EQ(unreadable(*open(ChunkStore::Mode::kRead)), 0U) << "the newer copy counts";
        for (const fs::path& pack : packs()) {
            if (pack != pack_) fs::remove(pack);
        }
    }
}

TEST_F(DamageTest, GarbageCollectionKeepsWhatItCannotRead) {
    Bytes changed = sound_;
    changed[24] ^= 1U;
    write_pack(changed);
    const fs::path unreadable_pack = directory_ / "pack-0000000000000099.ppk";
    {
        const OwnedFd fd = open_file(unreadable_pack, O_WRONLY | O_CREAT).value();
        ASSERT_TRUE(write_all(fd, as_bytes("PPDSMPAK and nothing else")));
    }
    const auto store = open();
    ChunkSet live;
    for (const auto& [id, content] : chunks_) {
        if (content.size() == 40) live.insert(id);
    }
    ASSERT_TRUE(store->collect_garbage(live));
    EXPECT_TRUE(fs::exists(unreadable_pack));
    const bool readable = store->get(*live.begin()).has_value();
    EXPECT_EQ(fs::exists(pack_), !readable);
    EXPECT_FALSE(store->damaged_packs().empty());
}

TEST_F(DamageTest, NewerVersionIsNamed) {
    Bytes newer = sound_;
    newer[8] = 2;
    const std::uint64_t checksum = XXH3_64bits(newer.data(), 16);
    std::memcpy(newer.data() + 16, &checksum, 8);
    write_pack(newer);
    const auto store = open();
    ASSERT_EQ(store->damaged_packs().size(), 1U);
    const std::string what = store->damaged_packs()[0].what;
    EXPECT_NE(what.find("version 2 is newer than version 1"), std::string::npos) << what;
    ASSERT_TRUE(store->collect_garbage({}));
    EXPECT_TRUE(fs::exists(pack_));
}

TEST_F(DamageTest, ForgedNumbersAreRefusedOrHarmless) {
    std::mt19937_64 random(11);
    std::uint64_t index_bytes = 0;
    std::memcpy(&index_bytes, sound_.data() + sound_.size() - kFooterBytes + 16, 8);
    const std::size_t tail_bytes = index_bytes + kFooterBytes;
    for (int round = 0; round < 4000; ++round) {
        Bytes forged = sound_;
        for (std::uint64_t i = 0; i <= random() % 3; ++i) {
            forged[sound_.size() - 1 - random() % tail_bytes] = static_cast<std::uint8_t>(random());
        }
        seal(forged);
        write_pack(forged);
        const auto store = open(ChunkStore::Mode::kRead);
        unreadable(*store);  // Fails the test where wrong bytes come back.
        EXPECT_TRUE(store->verify({}));
    }
}

}  // namespace
}  // namespace ppdsm
