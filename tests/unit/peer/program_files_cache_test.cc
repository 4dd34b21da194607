// Goal: the cache has whole contents or none, whatever dies when; what is pinned stays.
// Method: contents brought in by pieces, a child that is killed while it does so, bounds of a few
// pieces.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/peer/program_files_fixture.h"

namespace ppdsm {
namespace {

class FileCacheTest : public ProgramFilesTest {
protected:
    static FileLayout layout_of(const std::string& text) { return FileLayout::of(as_bytes(text)); }
    static Bytes piece_of(const std::string& text, std::size_t index) {
        const ByteView all = as_bytes(text);
        const ByteView part =
            all.subspan(index * kPieceBytes,
                        std::min<std::size_t>(kPieceBytes, all.size() - index * kPieceBytes));
        return {part.begin(), part.end()};
    }
    Status bring(FileCache& into, const std::string& text) {
        const FileLayout pieces = layout_of(text);
        PPDSM_ASSIGN(auto incoming, into.begin(pieces));
        for (std::size_t i = pieces.pieces.size(); i-- > 0;) {
            PPDSM_TRY(await<Status>(loop_, [&](auto done) {
                incoming->put(static_cast<std::uint32_t>(i), piece_of(text, i), done);
            }));
        }
        return await<Status>(loop_, [&](auto done) {
            incoming->finish(
                [&](const Result<OwnedFd>& fd) {
                    EXPECT_TRUE(fd);
                    EXPECT_EQ(fd ? text_of(*fd) : "", text);
                },
                done);
        });
    }
    std::string text_in(FileCache& from, const std::string& text) {
        const Result<OwnedFd> fd = await<Result<OwnedFd>>(
            loop_, [&](auto done) { from.open_content(layout_of(text).id(), done); });
        return fd ? text_of(*fd) : std::string(code_name(fd.error().code()));
    }
    [[nodiscard]] fs::path file_of(const std::string& text) const {
        const std::string name = layout_of(text).id().to_string();
        return directory() / "cache/content" / name.substr(0, 2) / name;
    }
};

TEST_F(FileCacheTest, HasWhatWasBroughtIn) {
    const std::string large = noise(2 * kPieceBytes + 1);
    {
        auto files = cache();
        ASSERT_TRUE(bring(*files, large));
        ASSERT_TRUE(bring(*files, ""));
        EXPECT_EQ(text_in(*files, large), large);
    }
    auto again = cache();
    EXPECT_EQ(text_in(*again, large), large);
    EXPECT_EQ(text_in(*again, ""), "");
    EXPECT_EQ(again->used_bytes(), large.size());
    EXPECT_EQ(text_in(*again, "other"), code_name(Code::kNotFound));
}

TEST_F(FileCacheTest, IsOneProcesss) {
    auto files = cache();
    const auto second = FileCache::open(loop_, {directory() / "cache"});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Code::kUnavailable);
}

TEST_F(FileCacheTest, APieceThatIsNotWhatItsNameSaysIsRefused) {
    const std::string text = noise(kPieceBytes + 10);
    auto files = cache();
    auto incoming = files->begin(layout_of(text)).value();
    const auto put = [&](std::uint32_t index, Bytes bytes) {
        return await<Status>(loop_,
                             [&](auto done) { incoming->put(index, std::move(bytes), done); });
    };
    EXPECT_EQ(put(0, piece_of(text, 1)).error().code(), Code::kCorrupt);
    EXPECT_EQ(put(1, piece_of(text, 0)).error().code(), Code::kCorrupt);
    EXPECT_EQ(put(2, piece_of(text, 1)).error().code(), Code::kCorrupt);
    Bytes flipped = piece_of(text, 0);
    flipped[77] ^= 4;
    EXPECT_EQ(put(0, flipped).error().code(), Code::kCorrupt);
    EXPECT_TRUE(put(0, piece_of(text, 0)));
    incoming.reset();
    EXPECT_FALSE(files->holds(layout_of(text).id()));
    EXPECT_EQ(files->used_bytes(), 0U);
    EXPECT_TRUE(fs::is_empty(directory() / "cache/incoming"));
}

TEST_F(FileCacheTest, ALayoutThatIsNoneIsRefused) {
    auto files = cache();
    FileLayout wrong = layout_of("text");
    wrong.size_bytes = 5 * kPieceBytes;
    EXPECT_EQ(files->begin(wrong).error().code(), Code::kCorrupt);
    wrong.size_bytes = std::uint64_t{1} << 60;
    EXPECT_EQ(files->begin(wrong).error().code(), Code::kCorrupt);
}

TEST_F(FileCacheTest, AKilledFetchLeavesNothing) {
    const std::string text = noise(3 * kPieceBytes);
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        Loop own;
        auto files = FileCache::open(own, {directory() / "cache"}).value();
        auto incoming = files->begin(layout_of(text)).value();
        (void)await<Status>(own, [&](auto done) { incoming->put(0, piece_of(text, 0), done); });
        (void)!::write(ready[1], "x", 1);
        ::pause();
    }
    char sign = 0;
    ASSERT_EQ(::read(ready[0], &sign, 1), 1);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(ready[0]);
    ::close(ready[1]);
    EXPECT_FALSE(fs::is_empty(directory() / "cache/incoming"));
    auto files = cache();
    EXPECT_FALSE(files->holds(layout_of(text).id()));
    EXPECT_TRUE(fs::is_empty(directory() / "cache/incoming"));
    EXPECT_TRUE(bring(*files, text));
}

TEST_F(FileCacheTest, WhatWasNotUsedForLongestGoes) {
    std::vector<std::string> texts;
    for (std::uint64_t i = 0; i < 8; ++i) texts.push_back(noise(kPieceBytes, i + 1));
    auto files = cache("cache", 4 * kPieceBytes);
    auto pin = files->pin();
    pin->add(layout_of(texts[0]).id());
    for (const std::string& text : texts) {
        ASSERT_TRUE(bring(*files, text));
        EXPECT_LE(files->used_bytes(), 4 * kPieceBytes);
    }
    EXPECT_EQ(text_in(*files, texts[0]), texts[0]) << "pinned";
    EXPECT_EQ(text_in(*files, texts[7]), texts[7]) << "the last";
    EXPECT_FALSE(files->holds(layout_of(texts[1]).id()));
    EXPECT_FALSE(fs::exists(file_of(texts[1])));
    pin.reset();
    for (std::uint64_t i = 0; i < 6; ++i) ASSERT_TRUE(bring(*files, noise(kPieceBytes, i + 100)));
    EXPECT_FALSE(files->holds(layout_of(texts[0]).id()));
}

TEST_F(FileCacheTest, WhatIsPinnedIsNotDroppedForMore) {
    auto files = cache("cache", 2 * kPieceBytes);
    auto pin = files->pin();
    for (std::uint64_t i = 0; i < 2; ++i) {
        const std::string text = noise(kPieceBytes, i + 1);
        pin->add(layout_of(text).id());
        ASSERT_TRUE(bring(*files, text));
    }
    const Status third = bring(*files, noise(kPieceBytes, 3));
    ASSERT_FALSE(third);
    EXPECT_EQ(third.error().code(), Code::kOverloaded);
    EXPECT_EQ(files->begin(layout_of(noise(3 * kPieceBytes))).error().code(), Code::kOverloaded);
}

TEST_F(FileCacheTest, ADescriptorOutlivesItsFile) {
    const std::string text = noise(kPieceBytes);
    auto files = cache("cache", kPieceBytes);
    ASSERT_TRUE(bring(*files, text));
    const Result<OwnedFd> fd = await<Result<OwnedFd>>(
        loop_, [&](auto done) { files->open_content(layout_of(text).id(), done); });
    ASSERT_TRUE(bring(*files, noise(kPieceBytes, 2)));
    EXPECT_FALSE(files->holds(layout_of(text).id()));
    EXPECT_EQ(text_of(*fd), text);
}

TEST_F(FileCacheTest, DamageIsNoticed) {
    const std::string text = noise(kPieceBytes);
    auto files = cache();
    ASSERT_TRUE(bring(*files, text));
    fs::permissions(file_of(text), fs::perms::owner_all);
    fs::resize_file(file_of(text), 100);
    EXPECT_EQ(text_in(*files, text), code_name(Code::kNotFound));
    EXPECT_FALSE(files->holds(layout_of(text).id()));
    ASSERT_TRUE(bring(*files, text));
    fs::permissions(file_of(text), fs::perms::owner_all);
    {
        std::fstream(file_of(text), std::ios::in | std::ios::out | std::ios::binary) << "damage";
    }
    const Result<FileLayout> damaged = await<Result<FileLayout>>(
        loop_, [&](auto done) { files->layout(layout_of(text).id(), done); });
    EXPECT_EQ(damaged.error().code(), Code::kCorrupt);
    EXPECT_FALSE(files->holds(layout_of(text).id()));
}

TEST_F(FileCacheTest, RemembersWhatWasSeenWhere) {
    const FileId first = layout_of("first").id();
    const FileId second = layout_of("second").id();
    const std::string odd = "/with\nlines \\and spaces";
    const FileVersion version{5, -7, 9};
    {
        auto files = cache();
        files->remember_listing("peer", odd, first);
        files->remember_listing("peer", "/usr", first);
        files->remember_listing("peer", "/usr", second);
        files->remember_content("peer", odd, version, second);
        // The log is written by the pool.
        ASSERT_TRUE(bring(*files, "so that it has run"));
        ASSERT_TRUE(bring(*files, "twice"));
    }
    auto files = cache();
    EXPECT_EQ(files->known_listing("peer", odd), first);
    EXPECT_EQ(files->known_listing("peer", "/usr"), second);
    EXPECT_EQ(files->known_listing("other", "/usr"), std::nullopt);
    EXPECT_EQ(files->known_content("peer", odd, version), second);
    EXPECT_EQ(files->known_content("peer", odd, FileVersion{5, -7, 10}), std::nullopt);
}

class FileFetcherTest : public FileCacheTest {
protected:
    Result<OwnedFd> fetch(FileFetcher& fetcher, FileId file, bool durable = false) {
        return await<Result<OwnedFd>>(loop_,
                                      [&](auto done) { fetcher.fetch(file, {}, durable, done); });
    }
};

TEST_F(FileFetcherTest, FetchesFromAnybodyWhoHasIt) {
    const std::string text = noise(40 * kPieceBytes + 5);
    auto holder = cache("holder");
    ASSERT_TRUE(bring(*holder, text));
    HolderSource behind(loop_, *holder);
    WatchedSource source(behind);
    auto files = cache();
    FileFetcher fetcher(loop_, *files, source);
    source.forged_pieces = 2;
    const Result<OwnedFd> fd = fetch(fetcher, layout_of(text).id(), true);
    ASSERT_TRUE(fd) << fd.error().message();
    EXPECT_EQ(text_of(*fd), text);
    EXPECT_EQ(source.pieces, 41 + 2) << "forged ones are asked for again, others once";
    EXPECT_TRUE(files->holds(layout_of(text).id()));
    source.forget_counts();
    EXPECT_TRUE(fetch(fetcher, layout_of(text).id()));
    EXPECT_EQ(source.pieces + source.layouts, 0);
}

TEST_F(FileFetcherTest, TwoWhoWantTheSameWaitForOneFetch) {
    const std::string text = noise(5 * kPieceBytes);
    auto holder = cache("holder");
    ASSERT_TRUE(bring(*holder, text));
    HolderSource behind(loop_, *holder);
    WatchedSource source(behind);
    auto files = cache();
    FileFetcher fetcher(loop_, *files, source);
    std::vector<std::string> got;
    await<bool>(loop_, [&](auto done) {
        for (int i = 0; i < 4; ++i) {
            fetcher.fetch(layout_of(text).id(), {}, i % 2 == 0,
                          [&got, done](const Result<OwnedFd>& fd) {
                              got.push_back(fd ? text_of(*fd) : fd.error().message());
                              if (got.size() == 4) done(true);
                          });
        }
    });
    for (const std::string& each : got) EXPECT_EQ(each, text);
    EXPECT_EQ(source.pieces, 5);
}

TEST_F(FileFetcherTest, ASourceThatKeepsForgingIsANamedError) {
    const std::string text = noise(2 * kPieceBytes);
    auto holder = cache("holder");
    ASSERT_TRUE(bring(*holder, text));
    HolderSource behind(loop_, *holder);
    WatchedSource source(behind);
    source.forged_pieces = 1000;
    auto files = cache();
    FileFetcher fetcher(loop_, *files, source);
    const Result<OwnedFd> fd = fetch(fetcher, layout_of(text).id());
    ASSERT_FALSE(fd);
    EXPECT_EQ(fd.error().code(), Code::kCorrupt);
    source.forged_pieces = 0;
    EXPECT_TRUE(fetch(fetcher, layout_of(text).id(), true)) << "and may be tried again";
    EXPECT_EQ(files->used_bytes(), text.size());
}

TEST_F(FileFetcherTest, AReplicaGetsAllOrAnError) {
    std::vector<FileId> wanted;
    auto holder = cache("holder");
    for (std::uint64_t i = 0; i < 60; ++i) {
        const std::string text = noise(1000 * i, i + 1);
        ASSERT_TRUE(bring(*holder, text));
        wanted.push_back(layout_of(text).id());
    }
    HolderSource source(loop_, *holder);
    auto files = cache();
    FileFetcher fetcher(loop_, *files, source);
    const auto fetch_all = [&] {
        return await<Status>(loop_, [&](auto done) { fetcher.fetch_all(wanted, done); });
    };
    EXPECT_TRUE(fetch_all());
    for (const FileId file : wanted) EXPECT_TRUE(files->holds(file));
    EXPECT_TRUE(fetch_all());
    wanted.push_back(layout_of("nobody has it").id());
    const Status all = fetch_all();
    ASSERT_FALSE(all);
    EXPECT_EQ(all.error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace ppdsm
