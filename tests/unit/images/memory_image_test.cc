// Goal: `ppdsm memory` finds what the program had in memory, where it had it. Method: read and
// search a real dump for what the dumped tree is known to hold.
#include "criu-glue/images/memory_image.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "tests/unit/images/real_dump.h"

namespace ppdsm {
namespace {

// In halves: the pattern must not lie whole in anybody's constants.
const std::string kPattern = std::string("ppdsm-crosses-") + "a-page-boundary";

class MemoryImages : public testing::Test {
protected:
    void SetUp() override {
        const std::string missing = missing_for_real_dumps();
        if (!missing.empty()) GTEST_SKIP() << "SKIPPED, missing: " << missing;
        const Status made = dump_.make(false);
        ASSERT_TRUE(made) << made.error().message();
        source_ = std::make_unique<DirectorySource>(dump_.before());
        Result<MemoryImage> memory = MemoryImage::open(*source_, dump_.number("root_pid"));
        ASSERT_TRUE(memory) << memory.error().message();
        memory_ = std::make_unique<MemoryImage>(*std::move(memory));
    }

    std::string text_at(std::uint64_t address, std::size_t length) {
        Bytes bytes(length);
        const auto holes = memory_->read(address, bytes);
        EXPECT_TRUE(holes) << holes.error().message();
        EXPECT_TRUE(!holes || holes->empty());
        return std::string(as_text(bytes));
    }

    const std::uint64_t page_ = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    RealDump dump_;
    std::unique_ptr<DirectorySource> source_;
    std::unique_ptr<MemoryImage> memory_;
};

TEST_F(MemoryImages, HoldWhatWasThere) {
    EXPECT_EQ(memory_->page_bytes(), page_);
    EXPECT_EQ(text_at(dump_.fact("private") + 5 * page_, page_), std::string(page_, 'F'));
    EXPECT_EQ(text_at(dump_.fact("heap"), 11), "on the heap");
    EXPECT_EQ(text_at(dump_.fact("stack"), 12), "on the stack");
    EXPECT_EQ(text_at(dump_.fact("shared"), 2 * page_), std::string(2 * page_, 's'));
    EXPECT_EQ(text_at(dump_.fact("memfd_mapping"), 2 * page_), std::string(2 * page_, 'm'));
    EXPECT_EQ(text_at(dump_.fact("file_private") + 2 * page_, page_), std::string(page_, 'p'));
}

TEST_F(MemoryImages, TellHolesFromZeros) {
    const std::uint64_t last = dump_.fact("private") + 31 * page_;
    Bytes bytes(3 * page_, 0xAA);
    const auto holes = memory_->read(last + page_ / 2, bytes);
    ASSERT_TRUE(holes) << holes.error().message();
    ASSERT_EQ(holes->size(), 1U);
    EXPECT_EQ(holes->front(), (AddressRange{last + page_, last + page_ / 2 + 3 * page_}));
    EXPECT_EQ(bytes[0], 'A' + 31);
    EXPECT_EQ(bytes[page_ / 2], 0);
    EXPECT_EQ(bytes.back(), 0);
    const auto past_the_end = memory_->read(UINT64_MAX - 1, bytes);
    ASSERT_FALSE(past_the_end);
    EXPECT_EQ(past_the_end.error().code(), Code::kInvalid);
}

TEST_F(MemoryImages, AreSearchedAcrossPages) {
    std::vector<std::uint64_t> places;
    std::string context;
    std::uint64_t context_address = 0;
    const Status searched = memory_->search(
        as_bytes(kPattern),
        [&](const MemoryMatch& match) {
            places.push_back(match.address);
            if (match.address == dump_.fact("pattern")) {
                context = as_text(match.context);
                context_address = match.context_address;
            }
            return true;
        },
        4);
    ASSERT_TRUE(searched) << searched.error().message();
    EXPECT_NE(std::find(places.begin(), places.end(), dump_.fact("pattern")), places.end());
    EXPECT_EQ(context, "KKKK" + kPattern + "LLLL");
    EXPECT_EQ(context_address, dump_.fact("pattern") - 4);
    EXPECT_NE(dump_.fact("pattern") / page_, (dump_.fact("pattern") + kPattern.size()) / page_);
}

TEST_F(MemoryImages, FindOverlappingMatchesAndStopWhenTold) {
    // Page 4 is all E's, its neighbours are not: one match fewer than bytes for a pair of them.
    const std::uint64_t start = dump_.fact("private") + 4 * page_;
    std::uint64_t inside = 0;
    const auto count = [&](const MemoryMatch& match) {
        inside += match.address >= start && match.address < start + page_ ? 1 : 0;
        return true;
    };
    ASSERT_TRUE(memory_->search(as_bytes("EE"), count, 0));
    EXPECT_EQ(inside, page_ - 1);

    std::uint64_t calls = 0;
    ASSERT_TRUE(memory_->search(as_bytes("EE"), [&](const MemoryMatch&) { return ++calls < 3; }));
    EXPECT_EQ(calls, 3U);
    EXPECT_EQ(memory_->search({}, count).error().code(), Code::kInvalid);
}

TEST_F(MemoryImages, AreOnlyOfProcessesThatHaveMemory) {
    for (const std::uint32_t pid : {dump_.number("zombie_pid"), 999'999'999U}) {
        const auto memory = MemoryImage::open(*source_, pid);
        ASSERT_FALSE(memory);
        EXPECT_EQ(memory.error().code(), Code::kNotFound);
    }
}

TEST_F(MemoryImages, ListWhatIsPresent) {
    const std::uint64_t start = dump_.fact("private");
    const auto& ranges = memory_->present();
    EXPECT_NE(std::find(ranges.begin(), ranges.end(), AddressRange{start, start + 32 * page_}),
              ranges.end());
    for (std::size_t i = 1; i < ranges.size(); ++i) {
        EXPECT_GT(ranges[i].start, ranges[i - 1].end);
    }
}

}  // namespace
}  // namespace ppdsm
