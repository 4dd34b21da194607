// Goal: the owner shows what lies below the roots of his plan, as it was listed, and nothing else.
// Method: a tree at home that is changed, swapped for links and asked for by bad paths.
#include <fcntl.h>
#include <unistd.h>

#include "criu-glue/sandbox/directory_listing.h"
#include "tests/unit/peer/program_files_fixture.h"

namespace ppdsm {
namespace {

class FileOwnerTest : public ProgramFilesTest {
protected:
    DirectoryListing listing_of(FileOwner& owner, const std::string& at) {
        const Result<ListAnswer> answer = list(loop_, owner, at);
        EXPECT_TRUE(answer) << answer.error().message();
        if (!answer) return {};
        EXPECT_EQ(FileLayout::of(answer->bytes).id(), answer->listing);
        return decode_listing(answer->bytes).value();
    }
};

TEST_F(FileOwnerTest, ListsADirectoryAsItIs) {
    write("file", "text");
    write("inner/other", "");
    fs::create_symlink("../elsewhere", tree() / "link");
    ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0640), 0);
    auto shown = owner();
    const DirectoryListing listing = listing_of(*shown, tree());
    ASSERT_EQ(listing.entries.size(), 4U);
    EXPECT_EQ(listing.find("link")->link_target, "../elsewhere");
    struct stat info{};
    ASSERT_EQ(::lstat(path("file").c_str(), &info), 0);
    EXPECT_EQ(listing.find("file")->attributes, FileAttributes::of(info));
    EXPECT_TRUE(S_ISFIFO(listing.find("fifo")->attributes.mode));
    EXPECT_TRUE(S_ISDIR(listing.find("inner")->attributes.mode));
    EXPECT_EQ(listing.find("none"), nullptr);
}

TEST_F(FileOwnerTest, SaysWhenNothingHasChanged) {
    write("file", "text");
    auto shown = owner();
    const FileId known = list(loop_, *shown, tree())->listing;
    Result<ListAnswer> again = list(loop_, *shown, tree(), known);
    EXPECT_TRUE(again->unchanged);
    EXPECT_TRUE(again->bytes.empty());
    write("another", "text");
    again = list(loop_, *shown, tree(), known);
    EXPECT_FALSE(again->unchanged);
    EXPECT_FALSE(again->bytes.empty());
}

TEST_F(FileOwnerTest, AnswersManyQuestionsInTheirOrder) {
    std::vector<ListQuery> queries;
    for (int i = 0; i < 50; ++i) {
        const std::string name = "directory" + std::to_string(i);
        if (i % 7 != 0) write(name + "/file" + std::to_string(i), "");
        queries.push_back({path(name), {}});
    }
    auto shown = owner();
    const auto answers = await<std::vector<Result<ListAnswer>>>(
        loop_, [&](auto done) { shown->list(queries, done); });
    ASSERT_EQ(answers.size(), queries.size());
    for (std::size_t i = 0; i < answers.size(); ++i) {
        if (i % 7 == 0) {
            EXPECT_FALSE(answers[i]);
            continue;
        }
        const auto listing = decode_listing(answers[i].value().bytes);
        EXPECT_NE(listing->find("file" + std::to_string(i)), nullptr);
    }
}

TEST_F(FileOwnerTest, GivesAFileByItsPieces) {
    const std::string text = noise(3 * kPieceBytes + 12345);
    write("large", text);
    auto shown = owner();
    const Result<ContentAnswer> answer =
        content(loop_, *shown, path("large"), version_now(path("large")));
    ASSERT_TRUE(answer) << answer.error().message();
    EXPECT_EQ(answer->layout.size_bytes, text.size());
    ASSERT_EQ(answer->layout.pieces.size(), 4U);
    EXPECT_FALSE(answer->is_settled) << "it was written just now";
    std::string together;
    for (std::uint32_t i = 0; i < 4; ++i) {
        const Result<Bytes> bytes = piece(loop_, *shown, answer->layout.id(), i);
        ASSERT_TRUE(bytes) << bytes.error().message();
        EXPECT_EQ(PieceId::of(*bytes), answer->layout.pieces[i]);
        together += as_text(*bytes);
    }
    EXPECT_EQ(together, text);
    EXPECT_EQ(layout(loop_, *shown, answer->layout.id()).value(), answer->layout);
}

TEST_F(FileOwnerTest, ALongListingCanBeHadByItsPieces) {
    for (int i = 0; i < 2000; ++i) write("many/" + std::string(60, 'x') + std::to_string(i), "");
    auto shown = owner();
    const Result<ListAnswer> answer = list(loop_, *shown, path("many"));
    ASSERT_TRUE(answer);
    const Result<Bytes> bytes = piece(loop_, *shown, answer->listing, 0);
    ASSERT_TRUE(bytes) << bytes.error().message();
    EXPECT_EQ(*bytes, answer->bytes);
}

TEST_F(FileOwnerTest, AFileThatChangedSinceItsListingIsANamedError) {
    write("file", "before");
    auto shown = owner();
    const FileVersion listed = version_now(path("file"));
    write("file", "after!");
    const Result<ContentAnswer> answer = content(loop_, *shown, path("file"), listed);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), Code::kNotFound);
    EXPECT_NE(answer.error().message().find("changed at home before it was fetched"),
              std::string::npos);
    fs::remove(path("file"));
    EXPECT_EQ(content(loop_, *shown, path("file"), listed).error().code(), Code::kNotFound);
}

TEST_F(FileOwnerTest, AFileThatChangesBetweenItsPiecesIsNoMix) {
    write("file", noise(2 * kPieceBytes, 1));
    auto shown = owner();
    const Result<ContentAnswer> answer =
        content(loop_, *shown, path("file"), version_now(path("file")));
    ASSERT_TRUE(piece(loop_, *shown, answer->layout.id(), 0));
    write("file", noise(2 * kPieceBytes, 2));
    const Result<Bytes> second = piece(loop_, *shown, answer->layout.id(), 1);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Code::kNotFound);
}

/// Same size, and times put back: only the content tells.
TEST_F(FileOwnerTest, AContentIsCheckedWhenItIsSent) {
    write("file", "before");
    auto shown = owner();
    const Result<ContentAnswer> answer =
        content(loop_, *shown, path("file"), version_now(path("file")));
    write("file", "after!");
    FileVersion forged = version_now(path("file"));
    const Result<ContentAnswer> other = content(loop_, *shown, path("file"), forged);
    ASSERT_TRUE(other);
    EXPECT_NE(other->layout.id(), answer->layout.id());
    EXPECT_FALSE(piece(loop_, *shown, answer->layout.id(), 0));
}

TEST_F(FileOwnerTest, NothingOutsideTheRootsIsShown) {
    std::ofstream(directory() / "secret") << "secret";
    write("inner/file", "text");
    fs::create_symlink("../secret", tree() / "link");
    fs::create_symlink(directory(), tree() / "out");
    fs::create_symlink("inner", tree() / "in");
    auto shown = owner();
    for (const std::string& bad :
         {std::string(directory() / "secret"), std::string("/etc"), path("../secret"),
          path("inner/../../secret"), path("out/secret"), path("link"), path("in/file"),
          std::string("/"), std::string()}) {
        EXPECT_FALSE(content(loop_, *shown, bad, version_now(directory() / "secret"))) << bad;
    }
    for (const std::string& bad : {std::string(directory()), path(".."), path("inner/../.."),
                                   path("out"), path("in"), std::string("/")}) {
        const Result<ListAnswer> answer = list(loop_, *shown, bad);
        // A link may be looked at, but nothing behind it.
        EXPECT_TRUE(!answer || decode_listing(answer->bytes)->entries.empty()) << bad;
    }
}

TEST_F(FileOwnerTest, ADirectorySwappedForALinkLeadsNowhere) {
    write("inner/file", "text");
    fs::create_directories(directory() / "private");
    std::ofstream(directory() / "private/file") << "secret";
    auto shown = owner();
    const FileVersion listed = version_now(directory() / "private/file");
    fs::remove_all(tree() / "inner");
    fs::create_symlink(directory() / "private", tree() / "inner");
    EXPECT_FALSE(content(loop_, *shown, path("inner/file"), listed));
}

TEST_F(FileOwnerTest, AFifoInAFilesPlaceHoldsNobody) {
    write("file", "");
    auto shown = owner();
    fs::remove(path("file"));
    ASSERT_EQ(::mkfifo(path("file").c_str(), 0600), 0);
    EXPECT_FALSE(content(loop_, *shown, path("file"), version_now(path("file"))));
}

TEST_F(FileOwnerTest, AFileMayBeARoot) {
    write("program", "text");
    ViewPlan only = plan();
    only.roots[0].target = only.roots[0].source = path("program");
    only.roots[0].is_directory = false;
    auto shown = FileOwner::open(loop_, only, hashes()).value();
    const DirectoryListing listing = listing_of(*shown, path("program"));
    EXPECT_TRUE(S_ISREG(listing.self.mode));
    EXPECT_TRUE(content(loop_, *shown, path("program"), version_now(path("program"))));
    EXPECT_FALSE(list(loop_, *shown, tree()));
}

TEST_F(FileOwnerTest, AnOldFileIsHashedOnceInALife) {
    write("file", noise(100'000));
    // The rule of the racy file: what has just been written is not remembered.
    const timespec long_ago[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path("file").c_str(), long_ago, 0), 0);
    struct stat info{};
    ASSERT_EQ(::stat(path("file").c_str(), &info), 0);
    const OwnedFd file = open_file(path("file"), O_RDONLY).value();
    const FileLayout known = FileLayout::of(file).value();
    EXPECT_FALSE(ContentHashes::is_settled(info)) << "its ctime is now";
    info.st_ctim.tv_sec -= 100;
    EXPECT_TRUE(ContentHashes::is_settled(info));
    {
        hashes()->put(info, known);
    }
    EXPECT_EQ(hashes()->find(info), known) << "kept beyond the process";
    struct stat other = info;
    other.st_size += 1;
    EXPECT_FALSE(hashes()->find(other));
    // A torn end, as a power cut leaves it.
    fs::resize_file(directory() / "hashes", fs::file_size(directory() / "hashes") - 3);
    EXPECT_FALSE(hashes()->find(info));
    {
        hashes()->put(info, known);
    }
    EXPECT_EQ(hashes()->find(info), known);
}

}  // namespace
}  // namespace ppdsm
