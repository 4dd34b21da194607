// Goal: what a program did to its view of a directory happens to the directory, each file whole at
// every instant, nothing outside is touched, and what its owner changed meanwhile is kept.
// Method: real overlay mounts in a mount namespace of the test's own, upper directories made by
// hand where a kernel would not make them, and applies that are killed.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <set>

#include "criu-glue/files/layer.h"
#include "tests/unit/files/tree_fixture.h"

namespace ppdsm {
namespace {

using namespace test;
using Applied = std::vector<std::pair<std::string, std::int64_t>>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

class LayerApplyTest : public TreeTest {
protected:
    void SetUp() override {
        TreeTest::SetUp();
        upper_ = directory_ / "upper";
        home_ = directory_ / "home";
        fs::create_directory(upper_);
        fs::create_directory(home_);
    }
    /// Home is as the run found it; from now on a change there is noticed.
    void start() {
        started_ = now_unix_ns();
        wait_until_files_are_newer(directory_, started_);
    }
    ApplyReport apply() {
        Result<ApplyReport> report =
            apply_layer(upper_, home_, HomeBaseline::at(started_), applied_);
        if (!report) {
            ADD_FAILURE() << report.error().message();
            return {};
        }
        return *report;
    }
    void whiteout(const std::string& name) {
        ASSERT_EQ(::mknod((upper_ / name).c_str(), S_IFCHR, makedev(0, 0)), 0);
    }
    void opaque(const std::string& name) {
        set_attribute(upper_ / name, "user.overlay.opaque", "y");
    }

    fs::path upper_;
    fs::path home_;
    std::int64_t started_ = 0;
    Applied applied_;
};

// ---- against the kernel's own merged view

/// Entered once: a process cannot go back, and nothing of it is seen outside.
bool enter_mount_namespace() {
    static const bool kEntered = ::geteuid() == 0 && ::unshare(CLONE_NEWNS) == 0 &&
                                 ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    return kEntered;
}

class OverlayTest : public LayerApplyTest {
protected:
    void SetUp() override {
        LayerApplyTest::SetUp();
        lower_ = directory_ / "lower";
        view_ = directory_ / "view";
        fs::create_directory(lower_);
        fs::create_directory(view_);
        fs::create_directory(directory_ / "work");
        if (!enter_mount_namespace()) {
            GTEST_SKIP() << "NEEDS ROOT: no mount namespace of the test's own can be made";
        }
    }
    void TearDown() override {
        unmount();
        LayerApplyTest::TearDown();
    }
    bool mount(const char* more) {
        const std::string options = "lowerdir=" + lower_.string() + ",upperdir=" + upper_.string() +
                                    ",workdir=" + (directory_ / "work").string() + more;
        mounted_ = ::mount("overlay", view_.c_str(), "overlay", 0, options.c_str()) == 0;
        return mounted_;
    }
    void unmount() {
        if (std::exchange(mounted_, false)) ::umount(view_.c_str());
    }
    void make_lower();
    void run_program();
    void expect_home_equals_view(const char* options);

    fs::path lower_;
    fs::path view_;
    bool mounted_ = false;
};

void OverlayTest::make_lower() {
    for (const char* name : {"kept", "removed", "appended", "truncated", "replaced_by_dir", "moded",
                             "rewritten", "linked", "renamed_away", "touched", "by_symlink"}) {
        write(lower_ / name, std::string("old content of ") + name + "\n");
    }
    for (const char* name :
         {"plain/inner", "gone/inner", "again/inner", "moved/inner", "replaced_by_file/inner"}) {
        fs::create_directories(lower_ / name);
        write(lower_ / name / "file", "old");
        write(lower_ / name / ".." / "beside", "old");
    }
    fs::create_symlink("kept", lower_ / "link");
    fs::create_symlink("plain", lower_ / "link_to_directory");
}

void OverlayTest::run_program() {
    fs::remove(view_ / "removed");
    append(view_ / "appended", "more");
    fs::resize_file(view_ / "truncated", 3);
    fs::remove(view_ / "replaced_by_dir");
    fs::create_directory(view_ / "replaced_by_dir");
    write(view_ / "replaced_by_dir" / "file", "in the new directory");
    ::chmod((view_ / "moded").c_str(), 04751);
    ASSERT_EQ(::chown((view_ / "moded").c_str(), 12, 34), 0);
    ::chmod((view_ / "moded").c_str(), 04751);
    write(view_ / "rewritten.new", std::string(300'000, 'r'));
    fs::rename(view_ / "rewritten.new", view_ / "rewritten");
    fs::create_hard_link(view_ / "linked", view_ / "plain" / "second_name");
    fs::create_hard_link(view_ / "linked", view_ / "a_first_name");
    fs::rename(view_ / "renamed_away", view_ / "renamed_here");
    set_mtime(view_ / "touched", 1'234'567'890'123'456'789);
    fs::remove(view_ / "by_symlink");
    fs::create_symlink("../nowhere", view_ / "by_symlink");

    write(view_ / "plain" / "inner" / "file", "new");
    write(view_ / "link_to_directory" / "through_link", "new");
    fs::remove_all(view_ / "gone");
    fs::remove_all(view_ / "again");
    fs::create_directories(view_ / "again" / "inner");
    write(view_ / "again" / "inner" / "other", "new");
    // A directory of the lower layer cannot be renamed: mv copies and removes.
    copy_tree(view_ / "moved", view_ / "moved_here");
    fs::remove_all(view_ / "moved");
    fs::remove_all(view_ / "replaced_by_file");
    write(view_ / "replaced_by_file", "now a file");
    fs::remove(view_ / "link");
    fs::create_directory(view_ / "link");
    ASSERT_EQ(::mkfifo((view_ / "fifo").c_str(), 0640), 0);
    set_attribute(view_ / "kept", "user.note", "by the program");
    ::chmod((view_ / "again").c_str(), 0550);
    set_mtime(view_ / "plain", 1'111'111'111'222'333'444);
}

void OverlayTest::expect_home_equals_view(const char* options) {
    make_lower();
    fs::remove(home_);
    copy_tree(lower_, home_);
    start();
    if (!mount(options)) {
        GTEST_SKIP() << "NEEDS OVERLAYFS: mount with \"" << options
                     << "\" fails: " << std::strerror(errno);
    }
    run_program();
    const Tree expected = describe(view_, Overlay::kHidden);
    unmount();

    const ApplyReport first = apply();
    EXPECT_EQ(difference(expected, describe(home_, Overlay::kShown)), "");
    EXPECT_EQ(first.conflicts, Pairs());
    EXPECT_EQ(first.skipped, std::vector<std::string>());

    const ApplyReport second = apply();
    EXPECT_EQ(difference(expected, describe(home_, Overlay::kShown)), "");
    EXPECT_EQ(second.conflicts, Pairs());
    EXPECT_EQ(second.written, first.written);
}

TEST_F(OverlayTest, HomeBecomesTheViewOfAPrivilegedMount) {
    expect_home_equals_view(",redirect_dir=off,metacopy=off");
}

TEST_F(OverlayTest, HomeBecomesTheViewOfAMountWithUserAttributes) {
    expect_home_equals_view(",userxattr");
}

TEST_F(OverlayTest, AppliesGenerationAfterGeneration) {
    make_lower();
    fs::remove(home_);
    copy_tree(lower_, home_);
    start();
    for (int generation = 1; generation <= 3; ++generation) {
        if (!mount(",redirect_dir=off,metacopy=off")) GTEST_SKIP() << "NEEDS OVERLAYFS";
        append(view_ / "appended", std::to_string(generation));
        if (generation == 1) {
            fs::create_directories(view_ / "short" / "lived");
            write(view_ / "short" / "lived" / "file", "x");
            write(view_ / "short_lived", "x");
        }
        if (generation == 2) {
            // Made and removed by the program: these leave no whiteouts.
            fs::remove_all(view_ / "short");
            fs::remove(view_ / "short_lived");
        }
        if (generation == 3) fs::remove(view_ / "appended");
        const Tree expected = describe(view_, Overlay::kHidden);
        unmount();
        EXPECT_EQ(apply().conflicts, Pairs());
        const Tree actual = describe(home_, Overlay::kShown);
        EXPECT_EQ(difference(expected, actual), "") << "generation " << generation;
    }
}

// ---- what the owner changed meanwhile

TEST_F(LayerApplyTest, KeepsAFileChangedAtHomeAndPutsOursBeside) {
    write(home_ / "file", "before");
    write(home_ / "file.ppdsm-conflict", "of an earlier run");
    write(upper_ / "file", "by the program");
    start();
    write(home_ / "file", "by the owner");
    const ApplyReport report = apply();
    EXPECT_EQ(report.conflicts, (Pairs{{"file", "file.ppdsm-conflict-2"}}));
    EXPECT_EQ(report.written, std::vector<std::string>());
    EXPECT_EQ(read(home_ / "file"), "by the owner");
    EXPECT_EQ(read(home_ / "file.ppdsm-conflict"), "of an earlier run");
    EXPECT_EQ(read(home_ / "file.ppdsm-conflict-2"), "by the program");

    EXPECT_EQ(apply().conflicts, report.conflicts) << "a second apply finds its own copy";
    write(upper_ / "file", "by the program, later");
    EXPECT_EQ(apply().conflicts, report.conflicts) << "and brings it up to date";
    EXPECT_EQ(read(home_ / "file.ppdsm-conflict-2"), "by the program, later");
    EXPECT_EQ(read(home_ / "file"), "by the owner");
}

TEST_F(LayerApplyTest, AFileThatAppearedAtHomeIsKept) {
    write(upper_ / "new", "by the program");
    start();
    write(home_ / "new", "by the owner");
    EXPECT_EQ(apply().conflicts, (Pairs{{"new", "new.ppdsm-conflict"}}));
    EXPECT_EQ(read(home_ / "new"), "by the owner");
    EXPECT_EQ(read(home_ / "new.ppdsm-conflict"), "by the program");
}

TEST_F(LayerApplyTest, EqualContentIsNoConflict) {
    write(upper_ / "file", "same");
    start();
    write(home_ / "file", "same");
    EXPECT_EQ(apply().conflicts, Pairs());
    EXPECT_EQ(read(home_ / "file"), "same");
}

TEST_F(LayerApplyTest, ARemovalSparesWhatChangedAtHome) {
    write(home_ / "file", "before");
    fs::create_directories(home_ / "tree" / "inner");
    write(home_ / "tree" / "inner" / "old", "before");
    write(home_ / "tree" / "old", "before");
    whiteout("file");
    whiteout("tree");
    start();
    write(home_ / "file", "by the owner");
    write(home_ / "tree" / "inner" / "new", "by the owner");
    const ApplyReport report = apply();
    EXPECT_EQ(report.conflicts, (Pairs{{"file", ""}, {"tree/inner/new", ""}}));
    EXPECT_EQ(report.removed, std::vector<std::string>());
    EXPECT_EQ(read(home_ / "file"), "by the owner");
    EXPECT_EQ(read(home_ / "tree" / "inner" / "new"), "by the owner");
    EXPECT_FALSE(fs::exists(home_ / "tree" / "old"));
    EXPECT_FALSE(fs::exists(home_ / "tree" / "inner" / "old"));
}

TEST_F(LayerApplyTest, AnOpaqueDirectoryReplacesAllButWhatChangedAtHome) {
    fs::create_directories(home_ / "dir" / "inner");
    write(home_ / "dir" / "old", "before");
    write(home_ / "dir" / "inner" / "old", "before");
    fs::create_directories(upper_ / "dir" / "inner");
    write(upper_ / "dir" / "inner" / "ours", "by the program");
    opaque("dir");
    start();
    write(home_ / "dir" / "new", "by the owner");
    const ApplyReport report = apply();
    EXPECT_EQ(report.conflicts, (Pairs{{"dir/new", ""}}));
    EXPECT_EQ(report.removed, (std::vector<std::string>{"dir/old", "dir/inner/old"}));
    EXPECT_EQ(read(home_ / "dir" / "new"), "by the owner");
    EXPECT_EQ(read(home_ / "dir" / "inner" / "ours"), "by the program");
    EXPECT_FALSE(fs::exists(home_ / "dir" / "old"));
    EXPECT_FALSE(fs::exists(home_ / "dir" / "inner" / "old"));
}

TEST_F(LayerApplyTest, ADirectoryInPlaceOfAChangedFileGoesBeside) {
    write(home_ / "name", "before");
    fs::create_directories(upper_ / "name" / "inner");
    write(upper_ / "name" / "inner" / "ours", "by the program");
    start();
    write(home_ / "name", "by the owner");
    const Pairs expected{{"name", "name.ppdsm-conflict"}};
    for (int time = 1; time <= 2; ++time) {
        EXPECT_EQ(apply().conflicts, expected);
        EXPECT_EQ(read(home_ / "name"), "by the owner");
        EXPECT_EQ(read(home_ / "name.ppdsm-conflict" / "inner" / "ours"), "by the program");
    }
    write(upper_ / "name" / "inner" / "ours", "later");
    EXPECT_EQ(apply().conflicts, expected);
    EXPECT_EQ(read(home_ / "name.ppdsm-conflict" / "inner" / "ours"), "later");
}

TEST_F(LayerApplyTest, AFileInPlaceOfADirectoryWithChangesGoesBeside) {
    fs::create_directory(home_ / "name");
    write(home_ / "name" / "old", "before");
    write(upper_ / "name", "by the program");
    start();
    write(home_ / "name" / "new", "by the owner");
    const ApplyReport report = apply();
    EXPECT_EQ(report.conflicts, (Pairs{{"name/new", ""}, {"name", "name.ppdsm-conflict"}}));
    EXPECT_EQ(read(home_ / "name" / "new"), "by the owner");
    EXPECT_EQ(read(home_ / "name.ppdsm-conflict"), "by the program");
}

// ---- what an ill-meaning program may leave

TEST_F(LayerApplyTest, NeverWritesThroughASymlink) {
    const fs::path outside = directory_ / "outside";
    fs::create_directory(outside);
    write(outside / "file", "untouched");
    const Tree before = describe(outside, Overlay::kShown);

    // Home's own symlink, where the program made a directory; and the other way round.
    fs::create_directory_symlink(outside, home_ / "was_link");
    fs::create_directory(upper_ / "was_link");
    write(upper_ / "was_link" / "file", "ours");
    fs::create_directory(home_ / "was_directory");
    fs::create_directory_symlink(outside, upper_ / "was_directory");
    fs::create_symlink(outside / "file", home_ / "was_file_link");
    write(upper_ / "was_file_link", "ours");
    start();
    EXPECT_EQ(apply().conflicts, Pairs());
    EXPECT_EQ(read(home_ / "was_link" / "file"), "ours");
    EXPECT_FALSE(fs::is_symlink(home_ / "was_link"));
    EXPECT_EQ(fs::read_symlink(home_ / "was_directory"), outside);
    EXPECT_FALSE(fs::is_symlink(home_ / "was_file_link"));
    EXPECT_EQ(difference(before, describe(outside, Overlay::kShown)), "");

    // The next generation fills what is by now a symlink at home.
    fs::remove(upper_ / "was_directory");
    fs::create_directory(upper_ / "was_directory");
    write(upper_ / "was_directory" / "file", "ours");
    EXPECT_EQ(apply().conflicts, Pairs());
    EXPECT_EQ(read(home_ / "was_directory" / "file"), "ours");
    EXPECT_EQ(difference(before, describe(outside, Overlay::kShown)), "");
}

TEST_F(LayerApplyTest, RefusesRedirectsBeforeTouchingAnything) {
    write(upper_ / "a_file", "ours");
    fs::create_directories(upper_ / "dir" / "moved");
    set_attribute(upper_ / "dir" / "moved", "user.overlay.redirect", "/elsewhere");
    start();
    const Result<ApplyReport> report =
        apply_layer(upper_, home_, HomeBaseline::at(started_), applied_);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code(), Code::kUnsupported);
    EXPECT_NE(report.error().message().find("dir/moved"), std::string::npos);
    EXPECT_TRUE(fs::is_empty(home_));
}

TEST_F(LayerApplyTest, NamesWhatItSkips) {
    struct sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (upper_ / "socket").string().copy(address.sun_path, sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::close(fd);
    start();
    EXPECT_EQ(apply().skipped, std::vector<std::string>{"socket: a socket"});
    EXPECT_TRUE(fs::is_empty(home_));
}

TEST_F(LayerApplyTest, TakesNamesOfAnyBytesAndTheGreatestLength) {
    const std::string odd = "a\nb\xff\x01 '\"\\";
    const std::string longest(255, 'n');
    for (const std::string& name : {odd, longest}) {
        write(home_ / name, "before");
        write(upper_ / name, "ours");
    }
    write(home_ / std::string(255, 'm'), "before");
    write(upper_ / std::string(255, 'm'), "ours");
    start();
    write(home_ / std::string(255, 'm'), "by the owner");
    const ApplyReport report = apply();
    EXPECT_EQ(read(home_ / odd), "ours");
    EXPECT_EQ(read(home_ / longest), "ours");
    ASSERT_EQ(report.conflicts.size(), 1u);
    EXPECT_EQ(read(home_ / report.conflicts[0].second), "ours");
}

TEST_F(LayerApplyTest, AnErrorNamesThePath) {
    const Result<ApplyReport> report =
        apply_layer(upper_, home_ / "absent", HomeBaseline::at(0), applied_);
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().message().find("absent: No such file"), std::string::npos);
}

// ---- killed at any moment

class KilledApplyTest : public LayerApplyTest {
protected:
    void make_trees();
    /// Every file is there as it was or as it shall be; only what is made or removed may be absent.
    void expect_whole_files();

    Tree before_;
    std::map<std::string, std::pair<std::string, std::string>> contents_;  ///< Old and new.
};

void KilledApplyTest::make_trees() {
    const fs::path lower = directory_ / "lower";
    fs::create_directories(lower / "dir" / "inner");
    fs::create_directories(lower / "emptied");
    fs::create_directories(upper_ / "dir" / "inner");
    fs::create_directories(upper_ / "emptied");
    fs::create_directories(upper_ / "made");
    const auto both = [&](const std::string& name, const std::string& old_content,
                          const std::string& new_content) {
        write(lower / name, old_content);
        write(upper_ / name, new_content);
        contents_[name] = {old_content, new_content};
    };
    for (int i = 0; i < 8; ++i) {
        const std::string number = std::to_string(i);
        both("file" + number, "old" + number, std::string(100'000, static_cast<char>('a' + i)));
        both("dir/inner/file" + number, std::string(70'000, 'o'), "new" + number);
        write(upper_ / "made" / number, "made" + number);
        write(lower / "emptied" / number, "x");
    }
    write(lower / "removed", "x");
    whiteout("removed");
    opaque("emptied");
    fs::create_hard_link(upper_ / "file0", upper_ / "made" / "link");
    write(lower / "becomes_directory", "x");
    fs::create_directory(upper_ / "becomes_directory");
    write(upper_ / "becomes_directory" / "inner", "y");
    fs::create_symlink("target", upper_ / "dir" / "symlink");
}

void KilledApplyTest::expect_whole_files() {
    for (const auto& [name, versions] : contents_) {
        const std::string content = read(home_ / name);
        EXPECT_TRUE(content == versions.first || content == versions.second)
            << name << " holds " << content.size() << " bytes of neither version";
    }
}

TEST_F(KilledApplyTest, EndsAsIfNeverKilled) {
    make_trees();
    const fs::path lower = directory_ / "lower";
    fs::remove(home_);
    copy_tree(lower, home_);
    start();
    const auto began = std::chrono::steady_clock::now();
    const ApplyReport undisturbed = apply();
    const auto took = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - began);
    const Tree expected = describe(home_, Overlay::kShown);
    EXPECT_EQ(undisturbed.conflicts, Pairs());

    const unsigned seed = 20240117;
    std::mt19937 random(seed);
    int died = 0;
    for (int round = 0; round < 25; ++round) {
        SCOPED_TRACE("seed " + std::to_string(seed) + " round " + std::to_string(round));
        fs::remove_all(home_);
        copy_tree(lower, home_);
        start();
        const int kills = 1 + static_cast<int>(random() % 3);
        for (int kill = 0; kill < kills; ++kill) {
            const auto delay_us =
                static_cast<useconds_t>(random() % static_cast<unsigned>(took.count() + 1));
            const pid_t child = ::fork();
            ASSERT_GE(child, 0);
            if (child == 0) {
                Applied lost;
                const bool done =
                    apply_layer(upper_, home_, HomeBaseline::at(started_), lost).has_value();
                ::_exit(done ? 0 : 1);
            }
            ::usleep(delay_us);
            ::kill(child, SIGKILL);
            int status = 0;
            ASSERT_EQ(::waitpid(child, &status, 0), child);
            if (WIFSIGNALED(status))
                ++died;
            else
                EXPECT_EQ(WEXITSTATUS(status), 0);
            expect_whole_files();
        }
        applied_.clear();
        const ApplyReport report = apply();
        EXPECT_EQ(report.conflicts, Pairs());
        EXPECT_EQ(report.written, undisturbed.written);
        EXPECT_EQ(difference(expected, describe(home_, Overlay::kShown)), "");
        if (HasFailure()) return;
    }
    EXPECT_GT(died, 0) << "no apply was killed in the middle";
}

}  // namespace
}  // namespace ppdsm
