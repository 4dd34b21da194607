// Goal: what a program was shown once it sees for its whole life, wherever it goes on; a second
// start asks for little; what is exposed can be had without its owner. Method: a broker asked over
// its channel, with an owner in the same process behind a source that counts, and holders that have
// nothing but a cache.
#include <sys/socket.h>

#include <map>

#include "criu-glue/sandbox/directory_listing.h"
#include "criu-glue/sandbox/file_channel.h"
#include "tests/unit/peer/program_files_fixture.h"

namespace ppdsm {
namespace {

using Kind = FileRequest::Kind;

/// A hosted VC on some peer, and the file server's end of its channel.
class Hosted {
public:
    Hosted(Loop& loop, FileCache& cache, FileSource& source, FileBroker::Setup setup)
        : loop_(loop), broker_(FileBroker::open(loop, cache, source, std::move(setup)).value()) {
        attach();
    }
    void attach() {
        int pair[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        broker_->attach(OwnedFd(pair[0]));
        server_ = std::make_unique<FileChannel>(OwnedFd(pair[1]));
    }
    [[nodiscard]] FileBroker& broker() { return *broker_; }

    FileReply ask(Kind kind, const std::string& path) {
        const std::uint64_t id = ++last_id_;
        FileReply answer = await<FileReply>(loop_, [&](auto done) {
            poller_ = std::make_unique<Poller>(loop_, server_->fd().get(), [this, done](int) {
                auto reply = server_->receive_reply();
                if (!reply || !*reply) return;
                if ((*reply)->id == kUnasked) return take_given(*std::move(*reply));
                done(*std::move(*reply));
            });
            poller_->watch(UV_READABLE);
            EXPECT_TRUE(server_->send(FileRequest{id, kind, path}));
        });
        poller_.reset();
        EXPECT_EQ(answer.id, id);
        return answer;
    }
    /// The contents that came without being asked for, by path.
    const std::map<std::string, std::string>& given() {
        for (;;) {
            auto reply = server_->receive_reply();
            if (!reply || !*reply) return given_;
            EXPECT_EQ((*reply)->id, kUnasked);
            take_given(*std::move(*reply));
        }
    }
    /// The content, or why not.
    std::string content(const std::string& path) {
        const FileReply answer = ask(Kind::kContent, path);
        return answer.file.valid() ? text_of(answer.file) : "error: " + answer.reason;
    }
    DirectoryListing listing(const std::string& path) {
        const FileReply answer = ask(Kind::kList, path);
        EXPECT_TRUE(answer.file.valid()) << answer.reason;
        if (!answer.file.valid()) return {};
        const std::string text = text_of(answer.file);
        return decode_listing(as_bytes(text)).value();
    }
    Result<FileBroker::Exposures> complete() {
        return await<Result<FileBroker::Exposures>>(
            loop_, [&](auto done) { broker_->complete_exposures({}, done); });
    }
    Status settle() {
        return await<Status>(loop_, [&](auto done) { broker_->settle(done); });
    }

private:
    /// Of contents; listings are looked for in the catalog.
    void take_given(const FileReply& reply) {
        if (reply.kind == Kind::kContent) given_[reply.path] = text_of(reply.file);
    }

    std::map<std::string, std::string> given_;
    Loop& loop_;
    std::unique_ptr<FileBroker> broker_;
    std::unique_ptr<FileChannel> server_;
    std::unique_ptr<Poller> poller_;
    std::uint64_t last_id_ = 0;
};

class FileBrokerTest : public ProgramFilesTest {
protected:
    void SetUp() override {
        ProgramFilesTest::SetUp();
        write("program", noise(3000));
        write("lib/one", "the first");
        write("lib/two", "the second");
        write("lib/large", noise(2 * kPieceBytes + 7));
        fs::create_symlink("lib/one", tree() / "link");
    }
    FileBroker::Setup setup(const std::string& catalog = "catalog") {
        return {plan(), "the-owner", directory() / catalog, {}, true};
    }
};

TEST_F(FileBrokerTest, AnswersWhatTheOwnerShows) {
    auto shown = owner();
    auto files = cache();
    Hosted hosted(loop_, *files, *shown, setup());
    EXPECT_EQ(hosted.listing(tree()).find("link")->link_target, "lib/one");
    EXPECT_EQ(hosted.content(path("lib/one")), "the first");
    EXPECT_EQ(hosted.content(path("lib/large")), noise(2 * kPieceBytes + 7));
    for (const std::string& bad :
         {path("none"), path("lib"), path("link"), std::string("/etc/passwd"), path("../hashes"),
          path("lib/../program"), std::string()}) {
        EXPECT_TRUE(hosted.content(bad).starts_with("error: ")) << bad;
    }
    EXPECT_FALSE(hosted.ask(Kind::kList, path("none")).file.valid());
    EXPECT_FALSE(hosted.ask(Kind::kList, "/").file.valid());
}

TEST_F(FileBrokerTest, WhatWasShownStaysAsItWas) {
    auto shown = owner();
    auto files = cache();
    Hosted hosted(loop_, *files, *shown, setup());
    const DirectoryListing before = hosted.listing(path("lib"));
    EXPECT_EQ(hosted.content(path("lib/one")), "the first");
    write("lib/one", "changed at home");
    write("lib/three", "new at home");
    fs::remove(path("lib/two"));
    hosted.attach();
    EXPECT_EQ(hosted.listing(path("lib")), before) << "in the next incarnation too";
    EXPECT_EQ(hosted.content(path("lib/one")), "the first");
    EXPECT_TRUE(hosted.content(path("lib/three")).starts_with("error: "));
    EXPECT_NE(hosted.content(path("lib/two")).find("changed at home before it was fetched"),
              std::string::npos);
}

TEST_F(FileBrokerTest, ARestartedDaemonShowsTheSame) {
    auto shown = owner();
    DirectoryListing before;
    {
        auto files = cache();
        Hosted hosted(loop_, *files, *shown, setup());
        before = hosted.listing(path("lib"));
        EXPECT_EQ(hosted.content(path("lib/one")), "the first");
        ASSERT_TRUE(hosted.settle());
    }
    write("lib/one", "changed at home");
    write("lib/three", "new at home");
    auto files = cache();
    Hosted hosted(loop_, *files, *shown, setup());
    EXPECT_EQ(hosted.listing(path("lib")), before);
    EXPECT_EQ(hosted.content(path("lib/one")), "the first");
    EXPECT_NE(hosted.content(path("lib/two")), "the first");
}

TEST_F(FileBrokerTest, ASecondProgramAsksOnlyWhetherAnythingChanged) {
    // As if it had been there for long: only then may a version be remembered.
    await_that(loop_, [&] {
        struct stat info{};
        return ::stat(path("lib/large").c_str(), &info) == 0 && ContentHashes::is_settled(info);
    });
    auto behind = owner();
    WatchedSource source(*behind);
    auto files = cache();
    const auto run = [&](const std::string& catalog) {
        Hosted hosted(loop_, *files, source, setup(catalog));
        EXPECT_NE(hosted.listing(path("lib")).find("one"), nullptr);
        EXPECT_EQ(hosted.content(path("lib/one")), "the first");
        EXPECT_EQ(hosted.content(path("lib/large")).size(), 2 * kPieceBytes + 7);
        EXPECT_TRUE(hosted.settle());
    };
    run("first");
    EXPECT_GT(source.pieces, 0);
    source.forget_counts();
    run("second");
    EXPECT_EQ(source.lists, 1) << "one directory, one small question";
    EXPECT_EQ(source.contents + source.layouts + source.pieces, 0);
    write("lib/one", "another");
    source.forget_counts();
    Hosted hosted(loop_, *files, source, setup("third"));
    EXPECT_EQ(hosted.content(path("lib/one")), "another");
}

TEST_F(FileBrokerTest, WhatTheLastOfItsKindWasShownIsGivenAhead) {
    await_that(loop_, [&] {
        struct stat info{};
        return ::stat(path("lib/large").c_str(), &info) == 0 && ContentHashes::is_settled(info);
    });
    auto behind = owner();
    WatchedSource source(*behind);
    auto files = cache();
    const auto of_kind = [&](const std::string& catalog) {
        FileBroker::Setup same = setup(catalog);
        same.habit = "a program";
        return same;
    };
    {
        Hosted first(loop_, *files, source, of_kind("first"));
        EXPECT_TRUE(first.ask(Kind::kList, path("lib")).reason.empty());
        EXPECT_EQ(first.content(path("lib/one")), "the first");
        EXPECT_TRUE(first.settle());
        EXPECT_TRUE(first.given().empty());
    }
    const auto known = [&](FileCache& of) {
        return await<FileHabit>(loop_, [&](auto done) {
            of.load_habit("the-owner a program",
                          [done](FileHabit habit) { done(std::move(habit)); });
        });
    };
    while (known(*files).entries.empty()) {
    }
    source.forget_counts();
    {
        Hosted second(loop_, *files, source, of_kind("second"));
        await_that(loop_, [&] { return second.given().size() == 1; });
        EXPECT_EQ(second.given().begin()->second, "the first");
        EXPECT_EQ(second.broker().catalog().listing(path("lib")).has_value(), true);
        EXPECT_EQ(source.lists, 1);
        EXPECT_EQ(source.contents + source.pieces, 0);
        EXPECT_EQ(second.content(path("lib/one")), "the first") << "it may be asked for as well";
    }
    write("lib/one", "changed at home");
    Hosted third(loop_, *files, source, of_kind("third"));
    EXPECT_EQ(third.content(path("lib/one")), "changed at home");
    for (const auto& [at, text] : third.given()) EXPECT_NE(text, "the first") << at;
}

TEST_F(FileBrokerTest, ADamagedHabitIsNone) {
    FileHabit habit;
    habit.entries.push_back({Kind::kList, "/odd\npath", FileLayout::of(as_bytes("a")).id()});
    habit.entries.push_back({Kind::kContent, "/odd\\", FileLayout::of(as_bytes("b")).id()});
    std::string text = habit.encode();
    EXPECT_EQ(FileHabit::decode(text).entries, habit.entries);
    for (std::size_t i = 0; i < text.size(); ++i) {
        std::string damaged = text;
        damaged[i] ^= 1;
        EXPECT_TRUE(FileHabit::decode(damaged).entries.empty()) << i;
        EXPECT_TRUE(FileHabit::decode(text.substr(0, i)).entries.empty()) << i;
    }
}

TEST_F(FileBrokerTest, ExposuresCanBeHadWithoutTheirOwner) {
    write("a/b/c/deep", "deep");
    write("empty", "");
    fs::create_directories(tree() / "nothing");
    auto shown = owner();
    auto files = cache();
    Hosted hosted(loop_, *files, *shown, setup());
    const auto all = hosted.complete();
    ASSERT_TRUE(all) << all.error().message();
    EXPECT_EQ(all->total.files, 6U);
    EXPECT_EQ(all->total.directories, 6U);
    EXPECT_EQ(all->total.bytes, 3000 + 9 + 10 + 2 * kPieceBytes + 7 + 4);
    EXPECT_TRUE(all->problems.empty());
    EXPECT_TRUE(hosted.settle());

    // Another peer: the catalog's bytes and what it names, from the first worker's cache.
    HolderSource holder(loop_, *files);
    auto others = cache("others");
    auto copy = FileCatalog::open(directory() / "copy").value();
    ASSERT_TRUE(copy.append_bytes(0, hosted.broker().catalog().bytes_from(0).value()));
    EXPECT_EQ(copy.contents(), hosted.broker().catalog().contents());
    FileFetcher fetcher(loop_, *others, holder);
    ASSERT_TRUE(await<Status>(loop_, [&](auto done) { fetcher.fetch_all(copy.contents(), done); }));
    fs::remove_all(tree());
    shown.reset();
    files.reset();
    HolderSource nobody(loop_, *others);
    Hosted restored(loop_, *others, nobody, setup("copy"));
    EXPECT_EQ(restored.listing(tree()).entries.size(), 6U);
    EXPECT_EQ(restored.content(path("a/b/c/deep")), "deep");
    EXPECT_EQ(restored.content(path("lib/two")), "the second");
    EXPECT_EQ(restored.content(path("empty")), "");
    EXPECT_TRUE(restored.complete());
}

TEST_F(FileBrokerTest, WhatIsCompleteCanBeSettledAtOnce) {
    for (int i = 0; i < 50; ++i) write("many/" + std::to_string(i), std::to_string(i));
    auto shown = owner();
    auto files = cache();
    Hosted hosted(loop_, *files, *shown, setup());
    // The last content has only just become durable when it is called.
    EXPECT_TRUE(await<Status>(loop_, [&](auto done) {
        hosted.broker().complete_exposures(
            {}, [&hosted, done](const auto&) { hosted.broker().settle(done); });
    }));
}

TEST_F(FileBrokerTest, WhatCannotBeFetchedIsNamedAndTheRestComplete) {
    auto shown = owner();
    auto files = cache();
    Hosted hosted(loop_, *files, *shown, setup());
    EXPECT_NE(hosted.listing(path("lib")).find("two"), nullptr);
    write("lib/two", "changed since it was listed");
    const auto all = hosted.complete();
    ASSERT_TRUE(all) << all.error().message();
    ASSERT_EQ(all->problems.size(), 1U);
    EXPECT_NE(all->problems[0].find(path("lib/two")), std::string::npos);
    EXPECT_NE(all->problems[0].find("changed at home before it was fetched"), std::string::npos);
    EXPECT_EQ(all->total.files, 3U);
}

TEST_F(FileBrokerTest, MoreThanThereIsRoomForIsAnError) {
    auto shown = owner();
    auto files = cache("cache", kPieceBytes);
    Hosted hosted(loop_, *files, *shown, setup());
    const auto all = hosted.complete();
    ASSERT_FALSE(all);
    EXPECT_EQ(all.error().code(), Code::kOverloaded);
    EXPECT_TRUE(hosted.content(path("lib/large")).starts_with("error: "));
    EXPECT_EQ(hosted.content(path("lib/one")), "the first");
}

TEST_F(FileBrokerTest, WithoutOwnerAndHolderTheReasonIsTold) {
    auto files = cache();
    auto others = cache("others");
    HolderSource nobody(loop_, *others);
    Hosted hosted(loop_, *files, nobody, setup());
    EXPECT_NE(hosted.content(path("lib/one")).find("the owner is gone"), std::string::npos);
}

TEST_F(FileBrokerTest, AnEqualSystemFileOfOnesOwnSavesTheTransfer) {
    auto opened = FileOwner::open(loop_, plan(true), hashes());
    WatchedSource source(**opened);
    auto files = cache();
    FileBroker::Setup system = setup();
    system.plan = plan(true);
    Hosted hosted(loop_, *files, source, system);
    EXPECT_EQ(hosted.content(path("lib/large")), noise(2 * kPieceBytes + 7));
    EXPECT_EQ(source.contents, 1) << "its name comes from the owner";
    EXPECT_EQ(source.pieces, 0);
    write("lib/large", "changed here");
    EXPECT_EQ(hosted.content(path("lib/large")), noise(2 * kPieceBytes + 7)) << "it was copied";
}

TEST_F(FileBrokerTest, ATornCatalogIsBelievedAsFarAsItIsWhole) {
    auto shown = owner();
    auto files = cache();
    {
        Hosted hosted(loop_, *files, *shown, setup());
        EXPECT_EQ(hosted.content(path("lib/one")), "the first");
    }
    {
        std::ofstream(directory() / "catalog", std::ios::app) << "L 0123";
    }
    const std::uintmax_t torn_bytes = fs::file_size(directory() / "catalog");
    auto catalog = FileCatalog::open(directory() / "catalog");
    ASSERT_TRUE(catalog);
    EXPECT_EQ(catalog->size_bytes(), torn_bytes - 6);
    EXPECT_TRUE(catalog->content(path("lib/one")));
    EXPECT_EQ(catalog->append_bytes(3, {}).error().code(), Code::kInvalid);
    EXPECT_EQ(catalog->append_bytes(catalog->size_bytes(), as_bytes("L 01")).error().code(),
              Code::kCorrupt);
    const std::string odd = "/odd\nname \\ with all";
    ASSERT_TRUE(catalog->add_content(odd, *catalog->listing(path("lib")), 5));
    EXPECT_TRUE(FileCatalog::open(directory() / "catalog")->content(odd));
}

}  // namespace
}  // namespace ppdsm
