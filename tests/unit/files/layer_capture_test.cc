// Goal: a restored layer is the layer at the cut, whatever the program did before and after, and no
// layer that somebody forged is restored. Method: real trees and a real store; writers that race
// with the precopy; manifests' entries that were tampered with.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "criu-glue/files/layer.h"
#include "tests/unit/files/tree_fixture.h"

namespace ppdsm {
namespace {

using namespace test;
using Type = LayerEntry::Type;

class LayerCaptureTest : public TreeTest {
protected:
    void SetUp() override {
        TreeTest::SetUp();
        layer_ = directory_ / "layer";
        fs::create_directory(layer_);
        auto opened = ChunkStore::open(directory_ / "store", ChunkStore::Mode::kWrite);
        ASSERT_TRUE(opened) << opened.error().message();
        store_ = std::move(*opened);
        capture_.emplace("work", layer_, directory_ / "staging");
    }
    Layer finish() {
        Result<Layer> layer = capture_->finish(*store_);
        EXPECT_TRUE(layer) << layer.error().message();
        EXPECT_TRUE(store_->flush());
        EXPECT_TRUE(fs::is_empty(directory_ / "staging"));
        return layer ? *layer : Layer();
    }
    void precopy() {
        const Status done = capture_->precopy(*store_);
        EXPECT_TRUE(done) << done.error().message();
    }
    void cut(const std::vector<FileIdentity>& mapped = {}) {
        const Status done = capture_->cut(mapped);
        EXPECT_TRUE(done) << done.error().message();
    }
    Layer take() {
        precopy();
        cut();
        return finish();
    }
    fs::path restore(const Layer& layer) {
        const fs::path to = directory_ / ("restored" + std::to_string(++restored_));
        const Status done = restore_layer(*store_, layer, to);
        EXPECT_TRUE(done) << done.error().message();
        return to;
    }
    static const LayerEntry& entry(const Layer& layer, const std::string& path) {
        for (const LayerEntry& one : layer.entries) {
            if (one.path == path) return one;
        }
        static const LayerEntry kNone;
        ADD_FAILURE() << "no entry " << path;
        return kNone;
    }
    /// Until the files are old enough for their times to be trusted.
    void let_settle() { wait_until_files_are_newer(directory_, now_unix_ns() + 60'000'000); }

    fs::path layer_;
    std::unique_ptr<ChunkStore> store_;
    std::optional<LayerCapture> capture_;
    int restored_ = 0;
};

TEST_F(LayerCaptureTest, RestoresEverything) {
    fs::create_directories(layer_ / "dir" / "inner" / "empty");
    write(layer_ / "dir" / "file", "content");
    write(layer_ / "dir-sorts-between", "x");
    write(layer_ / "nothing", "");
    write(layer_ / "large", std::string(300'001, 'l') + "end");
    write(layer_ / "sparse", "begin");
    fs::resize_file(layer_ / "sparse", 1 << 20);
    append(layer_ / "sparse", "end");
    write(layer_ / "odd\n\xff name", "odd");
    fs::create_symlink("../no/where", layer_ / "symlink");
    fs::create_hard_link(layer_ / "large", layer_ / "dir" / "second_name");
    fs::create_hard_link(layer_ / "symlink", layer_ / "symlink_too");
    ASSERT_EQ(::mkfifo((layer_ / "fifo").c_str(), 0622), 0);
    ASSERT_EQ(::mknod((layer_ / "socket").c_str(), S_IFSOCK | 0755, 0), 0);
    ASSERT_EQ(::mknod((layer_ / "whiteout").c_str(), S_IFCHR, makedev(0, 0)), 0);
    set_attribute(layer_ / "dir" / "file", "user.note", std::string("a\0b", 3));
    set_attribute(layer_ / "dir" / "inner", "user.overlay.opaque", "y");
    ::chmod((layer_ / "nothing").c_str(), 06751);
    if (::geteuid() == 0) {
        ASSERT_EQ(::mknod((layer_ / "device").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
        ASSERT_EQ(::mknod((layer_ / "block").c_str(), S_IFBLK | 0600, makedev(7, 250)), 0);
        set_attribute(layer_ / "dir", "trusted.overlay.opaque", "y");
        ASSERT_EQ(::lchown((layer_ / "symlink").c_str(), 12, 34), 0);
        ASSERT_EQ(::lchown((layer_ / "large").c_str(), 12, 34), 0);
    }
    ::chmod((layer_ / "dir" / "inner").c_str(), 0555);
    ::chmod(layer_.c_str(), 01777);
    set_mtime(layer_ / "dir", 1'234'567'890'123'456'789);
    set_mtime(layer_ / "symlink", 987'654'321'000'000'001);
    set_mtime(layer_, 1'000'000'000'000'000'007);

    const Layer layer = take();
    EXPECT_EQ(layer.name, "work");
    EXPECT_EQ(entry(layer, "large").type, Type::kHardLink);
    EXPECT_EQ(entry(layer, "large").target, "dir/second_name");
    EXPECT_TRUE(std::is_sorted(layer.entries.begin(), layer.entries.end(),
                               [](const auto& a, const auto& b) { return a.path < b.path; }));
    const fs::path restored = restore(layer);
    EXPECT_EQ(difference(describe(layer_, Overlay::kShown), describe(restored, Overlay::kShown)),
              "");
    struct stat root{};
    ASSERT_EQ(::stat(restored.c_str(), &root), 0);
    EXPECT_EQ(root.st_mode & 07777u, 01777u);
    EXPECT_EQ(root.st_mtim.tv_nsec, 7);
    ASSERT_EQ(::stat((restored / "sparse").c_str(), &root), 0);
    EXPECT_LT(root.st_blocks * 512, 1 << 19) << "the hole was filled";
}

TEST_F(LayerCaptureTest, AnUnchangedFileKeepsItsContentAndCostsNothing) {
    write(layer_ / "same", std::string(500'000, 's'));
    write(layer_ / "other", "before");
    let_settle();
    const Layer first = take();
    const std::uint64_t written = store_->bytes_written();
    EXPECT_EQ(entry(take(), "same").content, entry(first, "same").content);
    EXPECT_EQ(store_->bytes_written(), written);
    write(layer_ / "other", "after!");
    const Layer third = take();
    EXPECT_EQ(entry(third, "same").content, entry(first, "same").content);
    EXPECT_NE(entry(third, "other").content, entry(first, "other").content);
}

TEST_F(LayerCaptureTest, TheLayerIsThatOfTheCut) {
    for (const char* name : {"removed", "small", "large", "truncated", "replaced"}) {
        write(layer_ / name, std::string(200'000, 'b'));
    }
    let_settle();
    precopy();
    fs::remove(layer_ / "removed");
    write(layer_ / "appeared", "new");
    write(layer_ / "small", "changed");
    append(layer_ / "large", "more");
    fs::resize_file(layer_ / "truncated", 10);
    fs::remove(layer_ / "replaced");
    fs::create_directory(layer_ / "replaced");
    const Tree expected = describe(layer_, Overlay::kShown);
    cut();
    // The program goes on while the layer is stored.
    for (const char* name : {"appeared", "small", "large", "truncated"}) {
        write(layer_ / name, "later");
    }
    write(layer_ / "replaced" / "inner", "later");
    fs::remove(layer_ / "small");
    EXPECT_EQ(difference(expected, describe(restore(finish()), Overlay::kShown)), "");
}

TEST_F(LayerCaptureTest, AChangeInTheSameTickIsSeen) {
    for (int round = 0; round < 60; ++round) {
        write(layer_ / "file", "a" + std::to_string(1000 + round));
        precopy();
        write(layer_ / "file", "b" + std::to_string(1000 + round));
        cut();
        const Layer layer = finish();
        ASSERT_EQ(read(restore(layer) / "file"), "b" + std::to_string(1000 + round));
    }
}

class MappedFileTest : public LayerCaptureTest {
protected:
    void SetUp() override {
        LayerCaptureTest::SetUp();
        write(layer_ / "mapped", std::string(kBytes, '-'));
        const int fd = ::open((layer_ / "mapped").c_str(), O_RDWR | O_CLOEXEC);
        void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        struct stat status{};
        ASSERT_EQ(::fstat(fd, &status), 0);
        ::close(fd);
        ASSERT_NE(memory, MAP_FAILED);
        memory_ = static_cast<char*>(memory);
        identity_ = {{status.st_dev, status.st_ino}};
    }
    void TearDown() override {
        unmap();
        LayerCaptureTest::TearDown();
    }
    void unmap() {
        if (memory_ != nullptr) ::munmap(std::exchange(memory_, nullptr), kBytes);
    }
    static constexpr std::size_t kBytes = 100'000;
    char* memory_ = nullptr;
    std::vector<FileIdentity> identity_;
};

TEST_F(MappedFileTest, StoresThroughAMappingAreSeenAtEveryCut) {
    for (const char letter : {'a', 'b', 'c'}) {
        precopy();
        memory_[5] = letter;
        cut(identity_);
        memory_[5] = '!';
        EXPECT_EQ(read(restore(finish()) / "mapped")[5], letter);
        memory_[5] = letter;
        let_settle();
    }
    memory_[5] = 'd';
    unmap();
    precopy();
    cut();
    EXPECT_EQ(read(restore(finish()) / "mapped")[5], 'd') << "mapped at the last cut, not now";
}

TEST_F(MappedFileTest, AMappingThatIsGoneBeforeTheCutIsSeen) {
    memory_[5] = 'a';
    let_settle();
    precopy();
    memory_[5] = 'b';
    unmap();
    cut();
    EXPECT_EQ(read(restore(finish()) / "mapped")[5], 'b');
}

TEST_F(LayerCaptureTest, PrecopySurvivesAProgramThatIsBusy) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        std::mt19937 random(7);
        for (;;) {
            const fs::path path = layer_ / std::to_string(random() % 20);
            std::error_code ignored;
            switch (random() % 6) {
                case 0: fs::remove_all(path, ignored); break;
                case 1: fs::create_directory(path, ignored); break;
                case 2: write(path, std::string(random() % 300'000, 'x')); break;
                case 3: ::truncate(path.c_str(), 5); break;
                case 4: fs::rename(path, layer_ / std::to_string(random() % 20), ignored); break;
                default: write(path / "inner", "y");
            }
        }
    }
    for (int round = 0; round < 30; ++round) {
        precopy();
        ::kill(child, SIGSTOP);
        int status = 0;
        EXPECT_EQ(::waitpid(child, &status, WUNTRACED), child);
        const Tree expected = describe(layer_, Overlay::kShown);
        cut();
        ::kill(child, SIGCONT);
        const fs::path restored = restore(finish());
        EXPECT_EQ(difference(expected, describe(restored, Overlay::kShown)), "");
        fs::remove_all(restored);
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
}

TEST_F(LayerCaptureTest, AnAbandonedCutLeavesNoReferenceToLostContent) {
    write(layer_ / "committed", "committed");
    let_settle();
    take();
    write(layer_ / "file", std::string(200'000, 'f'));
    let_settle();
    precopy();
    cut();
    ASSERT_TRUE(capture_->finish(*store_));
    store_->abandon();
    capture_->abandon();
    EXPECT_TRUE(fs::is_empty(directory_ / "staging"));

    cut();
    EXPECT_EQ(read(restore(finish()) / "file"), std::string(200'000, 'f'));
}

TEST_F(LayerCaptureTest, ALostStoreIsNoticedWithoutBeingTold) {
    write(layer_ / "file", std::string(200'000, 'f'));
    let_settle();
    precopy();
    store_->abandon();
    cut();
    const Result<Layer> layer = capture_->finish(*store_);
    ASSERT_FALSE(layer);
    EXPECT_EQ(layer.error().code(), Code::kUnavailable);
    EXPECT_EQ(read(restore(take()) / "file"), std::string(200'000, 'f'));
}

TEST_F(LayerCaptureTest, CleansUpAfterAKilledCapture) {
    fs::create_directory(directory_ / "staging");
    write(directory_ / "staging" / "cut-1", "left by a kill");
    write(layer_ / "file", std::string(100'000, 'f'));
    EXPECT_EQ(read(restore(take()) / "file"), std::string(100'000, 'f'));
}

// ---- forged layers

class ForgedLayerTest : public LayerCaptureTest {
protected:
    static LayerEntry make(std::string path, Type type, std::string target = "") {
        LayerEntry made;
        made.path = std::move(path);
        made.type = type;
        made.mode = type == Type::kDirectory ? 0755 : 0644;
        made.uid = ::geteuid();
        made.gid = ::getegid();
        made.target = std::move(target);
        return made;
    }
    void expect_corrupt(std::vector<LayerEntry> entries) {
        Layer layer{"forged", {make("", Type::kDirectory)}};
        const std::string what = entries.back().path;
        layer.entries.insert(layer.entries.end(), entries.begin(), entries.end());
        const fs::path to = directory_ / "forged";
        const Status done = restore_layer(*store_, layer, to);
        ASSERT_FALSE(done) << what;
        EXPECT_EQ(done.error().code(), Code::kCorrupt) << done.error().message();
        EXPECT_FALSE(fs::exists(to)) << "something was made before the layer was checked";
    }
};

TEST_F(ForgedLayerTest, PathsThatLeaveTheLayerAreRefused) {
    for (const char* path : {"../x", "/x", "a/../../x", "..", ".", "a//x", "./x", "x/"}) {
        expect_corrupt({make("a", Type::kDirectory), make(path, Type::kFile)});
    }
    expect_corrupt({make(std::string("a\0b", 3), Type::kFile)});
}

TEST_F(ForgedLayerTest, NothingIsMadeBelowASymlinkOrAnAbsentDirectory) {
    expect_corrupt({make("link", Type::kSymlink, directory_), make("link/x", Type::kFile)});
    expect_corrupt({make("absent/x", Type::kFile)});
    expect_corrupt({make("file", Type::kFile), make("file/x", Type::kFile)});
}

TEST_F(ForgedLayerTest, LinksOutOfTheLayerAndDoubledNamesAreRefused) {
    expect_corrupt({make("x", Type::kHardLink, "../../etc/passwd")});
    expect_corrupt({make("x", Type::kHardLink, "/etc/passwd")});
    expect_corrupt({make("dir", Type::kDirectory), make("x", Type::kHardLink, "dir")});
    expect_corrupt({make("x", Type::kSymlink, "/etc"), make("x", Type::kFile)});
    expect_corrupt({make("", Type::kDirectory)});
}

TEST_F(ForgedLayerTest, ALayerIsNotMixedIntoOtherFiles) {
    write(layer_ / "there", "before");
    const Status done =
        restore_layer(*store_, Layer{"layer", {make("", Type::kDirectory)}}, layer_);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code(), Code::kInvalid);
    EXPECT_NE(done.error().message().find("there"), std::string::npos);
}

}  // namespace
}  // namespace ppdsm
