// Goal: the root shows the skeleton, lets directories of home be passed, and hides everything else.
// Method: a skeleton and a home of a few entries, asked for path by path.
#include "criu-glue/sandbox/root_view.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ppdsm {
namespace {

namespace fs = std::filesystem;
using Kind = RootNode::Kind;

class RootViewTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "ppdsm-root-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        for (const char* made : {"skeleton/usr", "skeleton/dev", "home/usr", "home/srv/data",
                                 "home/dev/shm", "home/run/user", "home/state/vcs"}) {
            fs::create_directories(directory_ / made);
        }
        fs::create_symlink("usr/bin", directory_ / "skeleton/bin");
        fs::create_directory_symlink(directory_ / "home/srv", directory_ / "home/link");
        fs::create_symlink("nowhere", directory_ / "home/dangling");
        for (const char* file : {"home/srv/input", "home/dev/node", "home/state/secret"}) {
            std::ofstream(directory_ / file) << "secret";
        }
    }
    void TearDown() override { fs::remove_all(directory_); }
    [[nodiscard]] RootView view() const {
        return RootView({directory_ / "skeleton", {"/state"}, {}, directory_ / "home"});
    }
    [[nodiscard]] Kind kind(const std::string& path) const { return view().find(path).kind; }

    fs::path directory_;
};

TEST_F(RootViewTest, ShowsTheSkeleton) {
    EXPECT_EQ(kind("/"), Kind::kOwn);
    EXPECT_EQ(kind("/usr"), Kind::kOwn);
    const RootNode link = view().find("/bin");
    EXPECT_EQ(link.kind, Kind::kOwn);
    EXPECT_TRUE(S_ISLNK(link.info.st_mode));
    EXPECT_EQ(view().source("/bin"), directory_ / "skeleton/bin");
}

TEST_F(RootViewTest, DirectoriesOfHomeCanBePassedButNotListed) {
    for (const char* path : {"/srv", "/srv/data"}) {
        const RootNode node = view().find(path);
        EXPECT_EQ(node.kind, Kind::kPhantom) << path;
        EXPECT_EQ(node.info.st_mode, static_cast<mode_t>(S_IFDIR | 0111)) << path;
        EXPECT_EQ(node.info.st_size, 0) << path;
    }
}

TEST_F(RootViewTest, EverythingElseOfHomeIsHidden) {
    for (const char* path : {"/srv/input", "/link", "/dangling"}) {
        EXPECT_EQ(kind(path), Kind::kHidden) << path;
        EXPECT_EQ(view().find(path).info.st_size, 0) << path;
    }
}

TEST_F(RootViewTest, WhatIsNowhereIsAbsent) {
    for (const char* path : {"/none", "/srv/none", "/srv/input/below", "/usr/none"}) {
        EXPECT_EQ(kind(path), Kind::kAbsent) << path;
    }
}

TEST_F(RootViewTest, WhatIsTheMachinesOrOursIsNotEvenNamed) {
    for (const char* path :
         {"/dev/shm", "/dev/node", "/run", "/run/user", "/state", "/state/secret", "/state/vcs"}) {
        EXPECT_EQ(kind(path), Kind::kAbsent) << path;
    }
    EXPECT_EQ(kind("/dev"), Kind::kOwn);
}

TEST_F(RootViewTest, ADirectoryBehindAUnionIsListed) {
    fs::create_directories(directory_ / "copy/ssl");
    fs::create_directories(directory_ / "home/etc/ssl/private");
    std::ofstream(directory_ / "copy/hosts") << "given";
    const RootView view(
        {directory_ / "skeleton", {}, {{"/etc", directory_ / "copy"}}, directory_ / "home"});
    EXPECT_EQ(view.find("/etc/ssl").kind, Kind::kOwn);
    EXPECT_EQ(view.find("/etc/ssl/private").kind, Kind::kPhantom);
    EXPECT_EQ(view.find("/etc/hosts").kind, Kind::kAbsent) << "the union answers before";
}

TEST_F(RootViewTest, NodesAreTheSameInEveryIncarnation) {
    const RootNode before = view().find("/usr");
    fs::remove(directory_ / "skeleton/usr");
    std::ofstream(directory_ / "skeleton/other") << "takes the inode";
    fs::create_directory(directory_ / "skeleton/usr");
    const RootNode after = view().find("/usr");
    EXPECT_EQ(before.info.st_ino, after.info.st_ino);
    EXPECT_EQ(after.info.st_mtim.tv_sec, 0);
    EXPECT_EQ(inode_of("/"), 1U);
    EXPECT_NE(inode_of("/usr"), inode_of("/srv"));
}

}  // namespace
}  // namespace ppdsm
