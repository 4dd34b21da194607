// Goal: a listing's bytes give the listing back, and damaged ones an error, never anything worse.
// Method: round trips, and every byte of a listing changed and every length of it tried.
#include "criu-glue/sandbox/directory_listing.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>

namespace ppdsm {
namespace {

DirectoryListing sample() {
    DirectoryListing listing;
    listing.self.mode = S_IFDIR | 0755;
    listing.self.mtime_ns = -5;
    listing.entries.push_back({"zeta", {S_IFREG | 0644, 1, 2, 3, 4, 5, 0, 7, 8}, ""});
    listing.entries.push_back({"link", {S_IFLNK | 0777, 0, 0, 1, 6, 0, 0, 0, 0}, "target"});
    listing.entries.push_back({"\xff\n odd", {S_IFCHR | 0600, 0, 0, 1, 0, 0, 259, 0, 0}, ""});
    listing.entries.push_back(
        {std::string(255, 'n'), {S_IFDIR | 0700, 0, 0, 2, 0, 0, 0, 0, 0}, ""});
    listing.sort();
    return listing;
}

TEST(DirectoryListing, ComesBackFromItsBytes) {
    for (const DirectoryListing& listing : {sample(), DirectoryListing{sample().self, {}}}) {
        const Result<DirectoryListing> back = decode_listing(encode_listing(listing));
        ASSERT_TRUE(back);
        EXPECT_EQ(*back, listing);
    }
}

TEST(DirectoryListing, FindsItsEntries) {
    const DirectoryListing listing = sample();
    for (const ListedEntry& entry : listing.entries) EXPECT_EQ(listing.find(entry.name), &entry);
    EXPECT_EQ(listing.find("zet"), nullptr);
    EXPECT_EQ(listing.find("zzz"), nullptr);
}

TEST(DirectoryListing, AttributesShowWhatStatShowed) {
    struct stat info{};
    ASSERT_EQ(::stat("/usr", &info), 0);
    struct stat shown{};
    FileAttributes::of(info).fill(shown);
    EXPECT_EQ(shown.st_mode, info.st_mode);
    EXPECT_EQ(shown.st_size, info.st_size);
    EXPECT_EQ(shown.st_nlink, info.st_nlink);
    EXPECT_EQ(shown.st_mtim.tv_sec, info.st_mtim.tv_sec);
    EXPECT_EQ(shown.st_mtim.tv_nsec, info.st_mtim.tv_nsec);
    info.st_mtim = {-2, 5};
    FileAttributes::of(info).fill(shown);
    EXPECT_EQ(shown.st_mtim.tv_sec, -2);
    EXPECT_EQ(shown.st_mtim.tv_nsec, 5);
}

TEST(DirectoryListing, CutShortItIsAnError) {
    const Bytes bytes = encode_listing(sample());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_FALSE(decode_listing(ByteView(bytes).first(size))) << size;
    }
    Bytes longer = bytes;
    longer.push_back(0);
    EXPECT_FALSE(decode_listing(longer));
}

TEST(DirectoryListing, BadNamesAreErrors) {
    for (const char* name : {"", ".", "..", "a/b", "/"}) {
        DirectoryListing listing;
        listing.self.mode = S_IFDIR;
        listing.entries.push_back({name, {S_IFREG, 0, 0, 1, 0, 0, 0, 0, 0}, ""});
        EXPECT_FALSE(decode_listing(encode_listing(listing))) << name;
    }
    DirectoryListing twice = sample();
    twice.entries.push_back(twice.entries.back());
    EXPECT_FALSE(decode_listing(encode_listing(twice)));
    DirectoryListing unsorted = sample();
    std::swap(unsorted.entries.front(), unsorted.entries.back());
    EXPECT_FALSE(decode_listing(encode_listing(unsorted)));
}

/// Whatever the bytes, what comes out is a listing that encodes to the same bytes, or an error.
TEST(DirectoryListing, DamageIsNeverWorseThanAnError) {
    const Bytes bytes = encode_listing(sample());
    std::mt19937 random(20);
    for (int i = 0; i < 50'000; ++i) {
        Bytes damaged = bytes;
        for (unsigned change = 0; change <= random() % 4; ++change) {
            damaged[random() % damaged.size()] = static_cast<std::uint8_t>(random());
        }
        const Result<DirectoryListing> back = decode_listing(damaged);
        ASSERT_TRUE(!back || encode_listing(*back) == damaged);
    }
}

}  // namespace
}  // namespace ppdsm
