// Goal: what a program sees through the file server is what its owner has, once and for all, and
// who waits for the owner waits alone. Method: a real FUSE mount and a real server process in a
// mount namespace of the test's own, a broker and an owner on this loop; files are looked at by
// other threads meanwhile. Needs root and /dev/fuse.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "criu-glue/sandbox/file_server.h"
#include "tests/unit/peer/program_files_fixture.h"

namespace ppdsm {
namespace {

/// Everything that stat(2) and reading tell, but for device, inode and times of access.
std::string describe(const fs::path& path) {
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0) return std::string("none: ") + std::strerror(errno);
    std::string text = std::to_string(info.st_mode) + " " + std::to_string(info.st_uid) + " " +
                       std::to_string(info.st_gid) + " " + std::to_string(info.st_nlink) + " " +
                       std::to_string(info.st_size) + " " + std::to_string(info.st_blocks) + " " +
                       std::to_string(info.st_mtim.tv_sec) + "." +
                       std::to_string(info.st_mtim.tv_nsec) + " " +
                       std::to_string(info.st_ctim.tv_nsec) + " ";
    if (S_ISLNK(info.st_mode)) return text + fs::read_symlink(path).string();
    if (!S_ISREG(info.st_mode)) return text;
    const Result<Bytes> content = read_file(path);
    return text + (content ? FileLayout::of(*content).id().to_string() : content.error().message());
}

std::map<std::string, std::string> walk(const fs::path& top) {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(top)) {
        all[entry.path().lexically_relative(top)] = describe(entry.path());
    }
    return all;
}

class FileMountTest : public ProgramFilesTest {
protected:
    void SetUp() override {
        if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0) {
            GTEST_SKIP() << "needs root and /dev/fuse";
        }
        // Once a process: what a test leaves mounted is gone with it.
        static const bool kIsOwn = ::unshare(CLONE_NEWNS) == 0 &&
                                   ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
        ASSERT_TRUE(kIsOwn);
        ProgramFilesTest::SetUp();
    }
    void TearDown() override {
        unmount();
        if (!directory().empty()) ProgramFilesTest::TearDown();
    }

    /// Shows the tree through a fresh server, for the VC of that catalog.
    void mount(FileCache& files, FileSource& source, const std::string& catalog = "catalog") {
        unmount();
        broker_.reset();
        broker_ = FileBroker::open(loop_, files, source,
                                   {plan(), "the-owner", directory() / catalog, {}, false})
                      .value();
        attach();
    }
    void attach() {
        unmount();
        int pair[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        OwnedFd daemons(pair[0]);
        OwnedFd servers(pair[1]);
        FileMount mounted = mount_files(mount_point()).value();
        server_ = ::fork();
        ASSERT_GE(server_, 0);
        if (server_ == 0) {
            daemons.reset();
            serve_files(std::move(mounted), std::move(servers), {tree()},
                        RefusalLog::open(log()).value());
        }
        broker_->attach(std::move(daemons));
    }
    void unmount() {
        if (server_ <= 0) return;
        ::umount2(mount_point().c_str(), MNT_DETACH);
        ::kill(server_, SIGKILL);
        ::waitpid(server_, nullptr, 0);
        server_ = 0;
    }
    /// Runs `look` on a thread while the loop runs here.
    template <typename Look>
    auto meanwhile(Look look) {
        int ends[2];
        EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        const OwnedFd told(ends[0]);
        const OwnedFd tells(ends[1]);
        decltype(look()) result{};
        std::thread thread([&] {
            result = look();
            (void)!::write(tells.get(), "x", 1);
        });
        std::unique_ptr<Poller> poller;
        await<bool>(loop_, [&](auto done) {
            poller = std::make_unique<Poller>(loop_, told.get(), [done](int) { done(true); });
            poller->watch(UV_READABLE);
        });
        poller.reset();
        thread.join();
        return result;
    }
    [[nodiscard]] fs::path mount_point() const { return directory() / "mount"; }
    [[nodiscard]] fs::path log() const { return directory() / "refusals.log"; }
    /// The same path as the program would see it.
    [[nodiscard]] std::string shown(const std::string& below) const {
        return mount_point().string() + path(below);
    }
    std::string text_at(const std::string& below) {
        return meanwhile([this, below] {
            const Result<Bytes> content = read_file(shown(below));
            return content ? std::string(as_text(*content)) : content.error().message();
        });
    }
    /// Why it could not be had; empty when that is not noted.
    std::string noted(const std::string& below) const {
        for (const auto& [at, why] : read_refusals(log()).unfetched) {
            if (at == path(below)) return why;
        }
        return {};
    }

    std::unique_ptr<FileBroker> broker_;
    pid_t server_ = 0;
};

TEST_F(FileMountTest, ShowsTheTreeAsItIsAtHome) {
    write("plain", "text");
    write("empty", "");
    write("a/b/c", noise(300'000));
    write("a/large", noise(5 * kPieceBytes + 17));
    fs::create_hard_link(path("plain"), path("a/second_name"));
    fs::create_symlink("../plain", path("a/link"));
    fs::create_symlink("nowhere", path("dangling"));
    fs::create_directories(path("nothing"));
    ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
    ASSERT_EQ(::chmod(path("empty").c_str(), 04711), 0);
    ASSERT_EQ(::chown(path("plain").c_str(), 12, 34), 0);
    write("odd \n name \xff", "text");
    const timespec times[2] = {{1, 2}, {1'111'111'111, 222'222'222}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path("a/b").c_str(), times, 0), 0);
    const auto at_home = walk(tree());
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    const auto seen = meanwhile([this] { return walk(shown("")); });
    EXPECT_EQ(seen, at_home);
    EXPECT_EQ(meanwhile([this] { return describe(shown("")); }), describe(tree()));
    EXPECT_TRUE(read_refusals(log()).unfetched.empty());
}

TEST_F(FileMountTest, NothingCanBeWritten) {
    write("file", "text");
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    const std::vector<int> errors = meanwhile([this] {
        std::vector<int> all;
        const auto note = [&](int result) { all.push_back(result < 0 ? errno : 0); };
        note(::open(shown("file").c_str(), O_WRONLY | O_CLOEXEC));
        note(::open(shown("new").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        note(::unlink(shown("file").c_str()));
        note(::mkdir(shown("directory").c_str(), 0700));
        note(::chmod(shown("file").c_str(), 0600));
        note(::truncate(shown("file").c_str(), 0));
        return all;
    });
    EXPECT_EQ(errors, std::vector<int>(6, EROFS));
}

TEST_F(FileMountTest, AMissingNameStaysMissing) {
    write("inner/file", "text");
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    EXPECT_NE(text_at("inner/none").find(std::strerror(ENOENT)), std::string::npos);
    write("inner/none", "made at home meanwhile");
    EXPECT_NE(text_at("inner/none").find(std::strerror(ENOENT)), std::string::npos);
    EXPECT_NE(text_at("inner/file/below").find(std::strerror(ENOTDIR)), std::string::npos);
}

TEST_F(FileMountTest, ALargeDirectoryIsListedWholeAndOnce) {
    std::set<std::string> expected;
    for (int i = 0; i < 5000; ++i) {
        const std::string name = "a_rather_long_name_of_a_file_" + std::to_string(i);
        write("many/" + name, "");
        expected.insert(name);
    }
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    for (int round = 0; round < 2; ++round) {
        const auto names = meanwhile([this] {
            std::vector<std::string> all;
            for (const auto& entry : fs::directory_iterator(shown("many"))) {
                all.push_back(entry.path().filename());
            }
            return all;
        });
        EXPECT_EQ(names.size(), expected.size());
        EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), expected);
    }
}

TEST_F(FileMountTest, AFileThatChangedBeforeItWasFetchedIsAnErrorWithItsName) {
    write("file", "before");
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    EXPECT_NE(meanwhile([this] { return describe(shown("")); }), "");
    EXPECT_TRUE(meanwhile([this] { return fs::exists(shown("file")); }));
    write("file", "after!");
    EXPECT_NE(text_at("file").find(std::strerror(EIO)), std::string::npos);
    EXPECT_NE(noted("file").find("changed at home before it was fetched"), std::string::npos);
}

TEST_F(FileMountTest, AFileThatChangesAfterwardsIsWhatItWas) {
    const std::string text = noise(2 * kPieceBytes);
    write("file", text);
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    EXPECT_EQ(text_at("file").size(), text.size());
    write("file", "changed");
    EXPECT_EQ(text_at("file"), text);
    // A fresh mount has nothing in the kernel's pages: another incarnation.
    attach();
    EXPECT_EQ(text_at("file"), text);
    EXPECT_EQ(noted("file"), "");
}

TEST_F(FileMountTest, WhoWaitsForTheOwnerWaitsAlone) {
    write("slow", noise(kPieceBytes));
    for (int i = 0; i < 20; ++i) write("quick" + std::to_string(i), std::to_string(i));
    auto behind = owner();
    HookedSource source(*behind);
    source.held_path = path("slow");
    auto files = cache();
    mount(*files, source);
    std::string slow;
    std::thread waiting([&] {
        const Result<Bytes> content = read_file(shown("slow"));
        slow = content ? as_text(*content) : content.error().message();
    });
    // The slow one is being asked for before any other is.
    await_that(loop_, [&] { return source.holds_any(); });
    for (int i = 0; i < 20; ++i) EXPECT_EQ(text_at("quick" + std::to_string(i)), std::to_string(i));
    EXPECT_TRUE(source.holds_any());
    source.release();
    EXPECT_TRUE(meanwhile([&] {
        waiting.join();
        return true;
    }));
    EXPECT_EQ(slow, noise(kPieceBytes));
}

TEST_F(FileMountTest, ManyReadersAtOnceGetWhatTheyAskFor) {
    for (int i = 0; i < 60; ++i) {
        write("d" + std::to_string(i % 6) + "/f" + std::to_string(i),
              noise(1000 * static_cast<std::size_t>(i), static_cast<std::uint64_t>(i) + 1));
    }
    const auto at_home = walk(tree());
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    const bool all_same = meanwhile([&] {
        std::vector<std::map<std::string, std::string>> seen(8);
        std::vector<std::thread> readers;
        readers.reserve(seen.size());
        for (auto& mine : seen) readers.emplace_back([this, &mine] { mine = walk(shown("")); });
        for (std::thread& reader : readers) reader.join();
        return std::all_of(seen.begin(), seen.end(), [&](const auto& s) { return s == at_home; });
    });
    EXPECT_TRUE(all_same);
}

TEST_F(FileMountTest, InodesAreTheSameInEveryIncarnation) {
    write("a/file", "text");
    auto behind = owner();
    auto files = cache();
    const auto inodes = [this] {
        return meanwhile([this] {
            std::vector<ino_t> all;
            for (const char* below : {"", "a", "a/file"}) {
                struct stat info{};
                all.push_back(::stat(shown(below).c_str(), &info) == 0 ? info.st_ino : 0);
            }
            return all;
        });
    };
    mount(*files, *behind);
    const std::vector<ino_t> before = inodes();
    for (const ino_t inode : before) EXPECT_NE(inode, 0U);
    auto others = cache("others");
    mount(*others, *behind, "another");
    EXPECT_EQ(inodes(), before) << "on another peer";
}

TEST_F(FileMountTest, WithoutADaemonWhatIsHereIsStillServed) {
    write("seen", "text");
    write("unseen", "text");
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    EXPECT_EQ(text_at("seen"), "text");
    broker_.reset();
    EXPECT_EQ(text_at("seen"), "text");
    EXPECT_NE(text_at("unseen").find(std::strerror(EIO)), std::string::npos);
    EXPECT_NE(noted("unseen"), "");
}

TEST_F(FileMountTest, AnotherUserIsDeniedWhatHomeDeniesHim) {
    write("private", "secret");
    write("public", "text");
    ASSERT_EQ(::chmod(path("private").c_str(), 0600), 0);
    ASSERT_EQ(::chmod(directory().c_str(), 0755), 0);
    auto behind = owner();
    auto files = cache();
    mount(*files, *behind);
    const auto as_nobody = [&](const std::string& below) {
        return meanwhile([this, below] {
            // The file system's id is a thread's own.
            const int own = ::setfsuid(65534);
            const Result<Bytes> content = read_file(shown(below));
            ::setfsuid(static_cast<uid_t>(own));
            return content ? 0 : content.error().errno_value();
        });
    };
    EXPECT_EQ(as_nobody("public"), 0);
    EXPECT_EQ(as_nobody("private"), EACCES);
}

}  // namespace
}  // namespace ppdsm
