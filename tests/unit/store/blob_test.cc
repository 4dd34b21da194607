// Goal: content comes back byte for byte at every size, few changes cost few bytes, marking keeps
// exactly what is needed. Method: sizes around every edge of the tree; parallel against serial.
#include "criu-glue/store/blob.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/unit/store/store_fixture.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;
using testing_store::kPage;
using testing_store::noise;
using testing_store::prose;

constexpr std::size_t kMiB = std::size_t{1} << 20;

class BlobTest : public testing_store::StoreFixture {
protected:
    [[nodiscard]] OwnedFd file(const char* name, ByteView content = {}) const {
        Result<OwnedFd> fd = open_file(home_ / name, O_RDWR | O_CREAT | O_TRUNC);
        EXPECT_TRUE(fd);
        EXPECT_TRUE(write_all(*fd, content));
        return std::move(*fd);
    }
};

TEST_F(BlobTest, EverySizeComesBack) {
    const auto store = open();
    for (const std::size_t size_bytes :
         {std::size_t{0}, std::size_t{1}, kPage - 1, kPage, kPage + 1, 16 * kPage - 1, 16 * kPage,
          16 * kPage + 1, 17 * kPage, 256 * kPage, 256 * kPage + 5, 300 * kPage, 4096 * kPage,
          4097 * kPage + 9}) {
        const Bytes content = noise(size_bytes, size_bytes);
        const Result<BlobRef> blob = store_bytes(*store, content);
        ASSERT_TRUE(blob);
        EXPECT_EQ(blob->size_bytes, size_bytes);
        EXPECT_EQ(blob->root == ChunkId{}, size_bytes == 0);
        EXPECT_EQ(load_blob(*store, *blob, size_bytes).value(), content);
        BlobWriter writer(*store);  // The same in odd pieces.
        for (std::size_t at = 0; at < size_bytes; at += 7777) {
            ASSERT_TRUE(writer.append(
                ByteView(content).subspan(at, std::min<std::size_t>(7777, size_bytes - at))));
        }
        EXPECT_EQ(writer.finish().value(), *blob);
    }
}

TEST_F(BlobTest, ParallelStoresTheSameBytesAsSerial) {
    // Compressible and not, larger than the pipeline's windows.
    Bytes content = prose(40 * kMiB, 1);
    const Bytes hard = noise(20 * kMiB + 123, 2);
    content.insert(content.end(), hard.begin(), hard.end());
    const auto pack_after = [&](const auto& fill) {
        const auto store = open();
        const BlobRef blob = fill(*store);
        EXPECT_TRUE(store->flush());
        Bytes bytes = read_file(packs().at(0)).value();
        fs::remove_all(directory_);
        return std::pair(blob, std::move(bytes));
    };
    const auto serial = pack_after([&](ChunkStore& store) {
        BlobWriter writer(store);
        EXPECT_TRUE(writer.append(content));
        return writer.finish().value();
    });
    const auto parallel =
        pack_after([&](ChunkStore& store) { return store_bytes(store, content).value(); });
    EXPECT_EQ(parallel.first, serial.first);
    EXPECT_TRUE(parallel.second == serial.second);
    const OwnedFd fd = file("content", content);
    const auto from_file = pack_after([&](ChunkStore& store) {
        const BlobRef blob = store_file(store, fd).value();
        Bytes back = load_blob(store, blob, content.size()).value();  // Before the flush.
        EXPECT_TRUE(back == content);
        return blob;
    });
    EXPECT_EQ(from_file.first, serial.first);
    EXPECT_TRUE(from_file.second == serial.second);
}

TEST_F(BlobTest, OnePercentOfChangedPagesAddsAboutOnePercent) {
    const auto store = open();
    Bytes content = noise(64 * kMiB, 1);
    ASSERT_TRUE(store_bytes(*store, content));
    ASSERT_TRUE(store->flush());
    const std::uint64_t first = store->bytes_written();
    std::mt19937_64 random(7);
    std::vector<std::size_t> pages(content.size() / kPage);
    for (std::size_t i = 0; i < pages.size(); ++i) pages[i] = i;
    std::ranges::shuffle(pages, random);
    const std::size_t changed = pages.size() / 100;
    for (std::size_t i = 0; i < changed; ++i) {
        const Bytes fresh = noise(kPage, 1000 + i);
        std::ranges::copy(fresh, content.begin() + static_cast<std::ptrdiff_t>(pages[i] * kPage));
    }
    const BlobRef after = store_bytes(*store, content).value();
    ASSERT_TRUE(store->flush());
    const double share =
        static_cast<double>(store->bytes_written() - first) / static_cast<double>(content.size());
    EXPECT_LT(share, 0.015);
    EXPECT_GT(share, 0.009);
    EXPECT_TRUE(load_blob(*store, after, content.size()).value() == content);
    EXPECT_EQ(store_bytes(*store, content).value(), after);
    ASSERT_TRUE(store->flush());
    EXPECT_EQ(packs().size(), 2U) << "an unchanged generation adds nothing";
}

TEST_F(BlobTest, RangesAreExact) {
    const auto store = open();
    const Bytes content = noise(40 * kPage + 100, 3);
    const BlobRef blob = store_bytes(*store, content).value();
    std::mt19937_64 random(5);
    for (int i = 0; i < 300; ++i) {
        const std::size_t from = random() % (content.size() + 1);
        Bytes into(random() % (content.size() - from + 1));
        ASSERT_TRUE(read_blob_range(*store, blob, from, into));
        ASSERT_TRUE(std::ranges::equal(into, ByteView(content).subspan(from, into.size())));
    }
    Bytes one(1);
    EXPECT_EQ(read_blob_range(*store, blob, content.size(), one).error().code(), Code::kInvalid);
    EXPECT_EQ(read_blob_range(*store, blob, ~std::uint64_t{0}, one).error().code(), Code::kInvalid);
    EXPECT_EQ(load_blob(*store, blob, 100).error().code(), Code::kCorrupt);
}

TEST_F(BlobTest, ZeroPagesBecomeHolesAndOldContentGoes) {
    const auto store = open();
    Bytes content(64 * kMiB);
    const Bytes island = noise(3 * kPage, 1);
    std::ranges::copy(island, content.begin() + 20 * kMiB + 5);
    const OwnedFd source = file("source");
    ASSERT_EQ(ftruncate(source.get(), static_cast<off_t>(content.size())), 0);
    ASSERT_TRUE(write_all_at(source, island, 20 * kMiB + 5));
    const BlobRef blob = store_file(*store, source).value();
    EXPECT_EQ(store_bytes(*store, content).value(), blob);
    const OwnedFd target = file("target", noise(65 * kMiB, 2));
    ASSERT_TRUE(write_blob_to(*store, blob, target));
    struct stat status{};
    ASSERT_EQ(fstat(target.get(), &status), 0);
    EXPECT_EQ(status.st_size, static_cast<off_t>(content.size()));
    EXPECT_LT(status.st_blocks * 512, static_cast<off_t>(kMiB));
    EXPECT_TRUE(read_file(home_ / "target").value() == content);
    ASSERT_TRUE(write_blob_to(*store, BlobRef{}, target));
    EXPECT_EQ(fs::file_size(home_ / "target"), 0U);
}

TEST_F(BlobTest, LargeBlobsAreWrittenInPartsAndTheirDamageIsRemembered) {
    const auto store = open();
    const Bytes content = noise(40 * kMiB + 3 * kPage + 5, 4);
    const BlobRef blob = store_bytes(*store, content).value();
    ASSERT_TRUE(store->flush());
    const OwnedFd target = file("target");
    ASSERT_TRUE(write_blob_to(*store, blob, target));
    EXPECT_TRUE(read_file(home_ / "target").value() == content);

    const OwnedFd pack = open_file(packs().front(), O_RDWR).value();
    const std::uint64_t middle = fs::file_size(packs().front()) / 2;
    Bytes byte(1);
    ASSERT_TRUE(read_exactly_at(pack, byte, middle));
    byte[0] ^= 1U;
    ASSERT_TRUE(write_all_at(pack, byte, middle));
    const auto reopened = open();
    const Status written = write_blob_to(*reopened, blob, target);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), Code::kCorrupt);
    EXPECT_NE(written.error().message().find(packs().front().string()), std::string::npos);
    ASSERT_EQ(store_bytes(*reopened, content).value(), blob);
    ASSERT_TRUE(reopened->flush());
    ASSERT_TRUE(write_blob_to(*reopened, blob, target)) << "what was damaged is stored anew";
    EXPECT_TRUE(read_file(home_ / "target").value() == content);
}

TEST_F(BlobTest, FourGibibytesOfZerosTakeAlmostNothing) {
    const auto store = open();
    const OwnedFd source = file("source");
    const off_t size_bytes = (off_t{4} << 30) + 1;
    ASSERT_EQ(ftruncate(source.get(), size_bytes), 0);
    const BlobRef blob = store_file(*store, source).value();
    ASSERT_TRUE(store->flush());
    EXPECT_LT(store->bytes_written(), 4096U);
    const OwnedFd target = file("target");
    ASSERT_TRUE(write_blob_to(*store, blob, target));
    EXPECT_EQ(static_cast<off_t>(fs::file_size(home_ / "target")), size_bytes);
    ASSERT_TRUE(check_blob(*store, blob, [](const ChunkId&, const Error& error) {
        ADD_FAILURE() << error.message();
    }));
}

TEST_F(BlobTest, MarkingKeepsExactlyTheBlob) {
    const auto store = open();
    const Bytes content = noise(300 * kPage + 1, 1);
    const BlobRef kept = store_bytes(*store, content).value();
    const std::uint64_t chunks = store->usage().chunks;
    ASSERT_TRUE(store_bytes(*store, noise(700 * kPage, 2)));  // More than half: rewritten.
    ASSERT_TRUE(store->flush());
    ChunkSet live;
    ASSERT_TRUE(mark_blob(*store, kept, live));
    const std::size_t marked = live.size();
    ASSERT_TRUE(mark_blob(*store, kept, live));
    EXPECT_EQ(live.size(), marked);
    ASSERT_TRUE(store->collect_garbage(live));
    EXPECT_EQ(store->usage().chunks, chunks);
    EXPECT_EQ(load_blob(*store, kept, content.size()).value(), content);
}

TEST_F(BlobTest, LeafThatSpellsANodeDoesNotHideItsSubtree) {
    const auto store = open();
    const Bytes content = noise(16 * kPage, 1);
    const BlobRef tree = store_bytes(*store, content).value();
    const Bytes spelled =
        store->get(tree.root).value();  // A program may own a file of these bytes.
    const BlobRef trap = store_bytes(*store, spelled).value();
    ASSERT_EQ(trap.root, tree.root);
    ASSERT_TRUE(store->flush());
    ChunkSet live;
    ASSERT_TRUE(mark_blob(*store, trap, live));
    ASSERT_TRUE(mark_blob(*store, tree, live));
    ASSERT_TRUE(store->collect_garbage(live));
    EXPECT_EQ(load_blob(*store, tree, content.size()).value(), content);
}

TEST_F(BlobTest, WrongShapesAreErrors) {
    const auto store = open();
    const BlobRef blob = store_bytes(*store, noise(20 * kPage, 1)).value();
    for (const std::uint64_t size_bytes :
         {std::uint64_t{1}, std::uint64_t{kPage}, std::uint64_t{16 * kPage},
          std::uint64_t{20 * kPage - 1}, std::uint64_t{20 * kPage + 1}, std::uint64_t{1} << 40,
          std::uint64_t{1} << 48, ~std::uint64_t{0}}) {
        const BlobRef wrong{size_bytes, blob.root};
        const auto sink = [](std::uint64_t, ByteView) { return Status{}; };
        EXPECT_EQ(read_blob(*store, wrong, sink).error().code(), Code::kCorrupt) << size_bytes;
    }
}

TEST_F(BlobTest, CheckReportsEachBadChunkOnce) {
    const auto store = open();
    Bytes content = noise(64 * kPage, 1);
    // Twice the same: a chunk that is needed twice is reported once.
    content.insert(content.end(), content.begin(), content.end());
    const BlobRef blob = store_bytes(*store, content).value();
    ASSERT_TRUE(store->flush());
    const auto no_report = [](const ChunkId&, const Error& error) {
        ADD_FAILURE() << error.message();
    };
    ASSERT_TRUE(check_blob(*store, blob, no_report));
    {
        // Noise is stored as it is: this is in the second block of sixteen pages.
        const OwnedFd pack = open_file(packs()[0], O_WRONLY).value();
        const std::uint8_t wrong = static_cast<std::uint8_t>(content[20 * kPage] ^ 1U);
        ASSERT_TRUE(write_all_at(pack, {&wrong, 1}, 24 + 20 * kPage));
    }
    ChunkSet reported;
    const auto reopened = open(ChunkStore::Mode::kRead);
    ASSERT_TRUE(check_blob(*reopened, blob, [&](const ChunkId& id, const Error& error) {
        EXPECT_EQ(error.code(), Code::kCorrupt);
        EXPECT_TRUE(reported.insert(id).second);
    }));
    ChunkSet expected;
    for (std::size_t page = 16; page < 32; ++page) {
        expected.insert(ChunkId::of(ByteView(content).subspan(page * kPage, kPage)));
    }
    EXPECT_EQ(reported, expected);
    EXPECT_EQ(load_blob(*reopened, blob, content.size()).error().code(), Code::kCorrupt);
}

TEST_F(BlobTest, OnlyRegularFilesAreStored) {
    const auto store = open();
    const OwnedFd directory = open_file(home_, O_RDONLY | O_DIRECTORY).value();
    EXPECT_EQ(store_file(*store, directory).error().code(), Code::kInvalid);
}

}  // namespace
}  // namespace ppdsm
