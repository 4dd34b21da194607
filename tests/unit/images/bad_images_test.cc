// Goal: no image, however damaged, does more than end in an error that names it. Method: a real
// dump, each image cut off at every length, and bytes of it flipped at random (fixed seed).
#include <gtest/gtest.h>

#include <random>
#include <sstream>

#include "criu-glue/images/dump_statistics.h"
#include "criu-glue/images/memory_image.h"
#include "criu-glue/images/process_image.h"
#include "criu-glue/images/tree_diff.h"
#include "tests/unit/images/real_dump.h"

namespace ppdsm {
namespace {

// What damage may lead to; others (an I/O error, say) would mislead whoever reads the message.
bool names_the_damage(const Error& error) {
    const bool expected = error.code() == Code::kCorrupt || error.code() == Code::kUnsupported;
    return expected && (error.message().find(".img") != std::string::npos ||
                        error.message().find("pages of different size") != std::string::npos);
}

class BadImages : public testing::Test {
protected:
    void SetUp() override {
        const std::string missing = missing_for_real_dumps();
        if (!missing.empty()) GTEST_SKIP() << "SKIPPED, missing: " << missing;
        const Status made = dump_.make(false);
        ASSERT_TRUE(made) << made.error().message();
        DirectorySource directory(dump_.before());
        source_ = std::make_unique<MemorySource>(directory);
        ASSERT_TRUE(read_process_tree(*source_));
    }

    // Those that are read whole; page images only have a size.
    std::vector<std::string> small_images() const {
        std::vector<std::string> names;
        for (const auto& [name, bytes] : source_->images) {
            if (name.ends_with(".img") && !name.starts_with("pages-")) names.push_back(name);
        }
        return names;
    }

    ImageSource& images() { return *source_; }

    RealDump dump_;
    std::unique_ptr<MemorySource> source_;
};

TEST_F(BadImages, CutOffAnywhereAreErrorsOrShorter) {
    for (const std::string& name : small_images()) {
        Bytes& image = source_->images[name];
        const Bytes whole = image;
        for (std::size_t length = 0; length < whole.size(); ++length) {
            // Its own allocation each time, so that the sanitizer sees the end.
            image = Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
            const Result<ProcessTree> tree = read_process_tree(*source_);
            if (!tree) {
                EXPECT_TRUE(names_the_damage(tree.error()))
                    << name << " at " << length << ": " << tree.error().message();
            }
        }
        image = whole;
    }
}

TEST_F(BadImages, WithoutOneThatIsNeededNameIt) {
    const std::string pid = std::to_string(dump_.fact("root_pid"));
    for (const char* name : {"pstree.img", "files.img"}) {
        MemorySource damaged(images());
        damaged.images.erase(name);
        EXPECT_FALSE(read_process_tree(damaged)) << name;
    }
    for (const std::string& name :
         {"core-" + pid + ".img", "mm-" + pid + ".img", "fs-" + pid + ".img", "ids-" + pid + ".img",
          std::string("memfd.img"), std::string("ghost-file-1.img")}) {
        MemorySource damaged(images());
        ASSERT_EQ(damaged.images.erase(name), 1U) << name;
        const Result<ProcessTree> tree = read_process_tree(damaged);
        ASSERT_FALSE(tree) << name;
        EXPECT_EQ(tree.error().code(), Code::kCorrupt);
        EXPECT_NE(tree.error().message().find(name), std::string::npos) << tree.error().message();
    }
}

TEST_F(BadImages, OfPagesThatAreCutOffAreFoundOut) {
    std::size_t found = 0;
    for (const auto& [name, bytes] : source_->images) {
        if (!name.starts_with("pages-")) continue;
        MemorySource damaged(images());
        damaged.images[name].pop_back();
        const Result<ProcessTree> tree = read_process_tree(damaged);
        ASSERT_FALSE(tree) << name;
        EXPECT_EQ(tree.error().code(), Code::kCorrupt);
        EXPECT_NE(tree.error().message().find(name), std::string::npos) << tree.error().message();
        ++found;
    }
    EXPECT_GE(found, 4U);
}

TEST_F(BadImages, WithFlippedBytesNeverCrash) {
    constexpr std::uint64_t kSeed = 20240229;
    std::mt19937_64 random(kSeed);
    const std::vector<std::string> names = small_images();
    const std::uint32_t pid = dump_.number("root_pid");
    for (int round = 0; round < 3000; ++round) {
        SCOPED_TRACE("seed " + std::to_string(kSeed) + ", round " + std::to_string(round));
        const std::string& name = names[random() % names.size()];
        Bytes& image = source_->images[name];
        const Bytes whole = image;
        const std::uint64_t flips = 1 + random() % 4;
        for (std::uint64_t i = 0; i < flips; ++i) {
            image[random() % image.size()] ^= static_cast<std::uint8_t>(1 + random() % 255);
        }
        const Result<ProcessTree> tree = read_process_tree(*source_);
        if (!tree) {
            EXPECT_TRUE(names_the_damage(tree.error())) << name << ": " << tree.error().message();
        }
        Result<MemoryImage> memory = MemoryImage::open(*source_, pid);
        if (memory && round % 50 == 0) {
            const Status searched =
                memory->search(as_bytes("ppdsm"), [](const MemoryMatch&) { return true; });
            EXPECT_TRUE(searched) << searched.error().message();
            MemorySource sound(images());
            sound.images[name] = whole;
            const Result<TreeDiff> diff = diff_trees(sound, *source_);
            if (!diff) {
                EXPECT_TRUE(names_the_damage(diff.error())) << diff.error().message();
            }
        }
        image = whole;
    }
}

TEST_F(BadImages, OfStatisticsAreErrors) {
    const Bytes whole = source_->images["stats-dump"];
    for (std::size_t length = 0; length < whole.size(); ++length) {
        const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
        const Result<DumpStatistics> statistics = read_dump_statistics(cut);
        ASSERT_FALSE(statistics) << length;
        EXPECT_EQ(statistics.error().code(), Code::kCorrupt);
        EXPECT_NE(statistics.error().message().find("stats-dump"), std::string::npos);
    }
}

TEST_F(BadImages, ThatClaimHugeRecordsAreRefused) {
    Bytes& image = source_->images["files.img"];
    // Past both magic numbers: the first record's length.
    for (std::size_t i = 8; i < 12; ++i) image[i] = 0xFF;
    const Result<ProcessTree> tree = read_process_tree(*source_);
    ASSERT_FALSE(tree);
    EXPECT_EQ(tree.error().code(), Code::kCorrupt);
    EXPECT_NE(tree.error().message().find("claims 4294967295 bytes"), std::string::npos)
        << tree.error().message();
}

}  // namespace
}  // namespace ppdsm
