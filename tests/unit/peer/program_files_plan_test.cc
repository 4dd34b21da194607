// Goal: a plan travels, is carried out where nothing of it exists, and leads nowhere else.
// Method: plans of a record at home, bad ones by hand, and views built from both.
#include <unistd.h>

#include "criu-glue/sandbox/mount_tree.h"
#include "runtime/peer/file_view.h"
#include "tests/unit/peer/program_files_fixture.h"

namespace ppdsm {
namespace {

class ViewPlanTest : public ProgramFilesTest {
protected:
    void SetUp() override {
        ProgramFilesTest::SetUp();
        ::setenv("PPDSM_HOME", (directory() / "home").c_str(), 1);
        home_ = Home::open().value();
        write("work/input", "text");
        write("data/set/file", "text");
        record_.id = "vc";
        record_.uid = ::geteuid();
        record_.working_directory = path("work");
        record_.program = path("bin/program");
        write("bin/program", "text");
        record_.exposures.push_back({path("data"), false, {{path("alias"), path("data")}}});
        record_.exposures.push_back({path("data/set/file"), false, {}});
    }
    void TearDown() override {
        ::unsetenv("PPDSM_HOME");
        ProgramFilesTest::TearDown();
    }
    [[nodiscard]] ViewPlan planned() const { return plan_view(record_, *home_).value(); }
    static const PlannedRoot* root(const ViewPlan& of, const std::string& target) {
        for (const PlannedRoot& root : of.roots) {
            if (root.target == target) return &root;
        }
        return nullptr;
    }

    std::optional<Home> home_;
    VcRecord record_;
};

TEST_F(ViewPlanTest, SaysWhatIsShownAndHow) {
    const ViewPlan plan = planned();
    EXPECT_EQ(root(plan, "/usr")->kind, PlannedRoot::Kind::kReadOnly);
    EXPECT_TRUE(root(plan, "/usr")->is_system);
    EXPECT_EQ(root(plan, "/etc")->kind, PlannedRoot::Kind::kUnion);
    EXPECT_NE(root(plan, "/etc")->source, "/etc");
    EXPECT_EQ(root(plan, path("work"))->kind, PlannedRoot::Kind::kLower);
    EXPECT_FALSE(root(plan, path("work"))->is_system);
    EXPECT_TRUE(root(plan, path("bin"))->is_directory);
    EXPECT_FALSE(root(plan, path("data/set/file"))->is_directory);
    ASSERT_EQ(plan.places.size(), 3U);
    EXPECT_EQ(plan.places[2].name, path("work"));
    EXPECT_EQ(plan.places[2].uid, ::geteuid());
    EXPECT_TRUE(plan.places[2].applied);
    const std::pair<std::string, std::string> alias{path("alias"), path("data")};
    EXPECT_NE(std::find(plan.links.begin(), plan.links.end(), alias), plan.links.end());
}

TEST_F(ViewPlanTest, Travels) {
    ViewPlan plan = planned();
    plan.directories.push_back("/bytes\xff\n");
    const Result<ViewPlan> there = decode_plan(encode_plan(plan));
    ASSERT_TRUE(there) << there.error().message();
    EXPECT_EQ(*there, plan);
    EXPECT_FALSE(decode_plan("{}"));
    EXPECT_FALSE(decode_plan(encode_plan(plan).substr(0, 100)));
}

TEST_F(ViewPlanTest, APlanThatLeadsElsewhereIsRefused) {
    const auto refused = [&](const std::function<void(ViewPlan&)>& spoil) {
        ViewPlan plan = planned();
        EXPECT_TRUE(decode_plan(encode_plan(plan)));
        spoil(plan);
        const Result<ViewPlan> there = decode_plan(encode_plan(plan));
        return !there && there.error().code() == Code::kCorrupt;
    };
    EXPECT_TRUE(refused([](ViewPlan& plan) { plan.roots[0].target = "/usr/../../etc"; }));
    EXPECT_TRUE(refused([](ViewPlan& plan) { plan.roots[0].target = "usr"; }));
    EXPECT_TRUE(refused([](ViewPlan& plan) { plan.roots[0].source = "//usr"; }));
    EXPECT_TRUE(refused([](ViewPlan& plan) { plan.directories.push_back("/a/./b"); }));
    EXPECT_TRUE(refused([](ViewPlan& plan) { plan.places.push_back({"/x", 0, 0, 0, true}); }));
    EXPECT_TRUE(refused([](ViewPlan& plan) { plan.places.push_back({"/x", 0, 0, 0, false}); }));
    // Through a link of the plan, onto the host's disk.
    EXPECT_TRUE(refused([](ViewPlan& plan) {
        plan.links.emplace_back("/a", "/etc");
        plan.directories.push_back("/a/evil");
    }));
    EXPECT_TRUE(refused([](ViewPlan& plan) {
        plan.links.emplace_back("/a", "/etc");
        plan.links.emplace_back("/a/evil", "/etc");
    }));
    EXPECT_TRUE(refused([](ViewPlan& plan) {
        plan.links.emplace_back("/a", "/etc");
        plan.roots[0].target = "/a/usr";
    }));
}

TEST_F(ViewPlanTest, IsCarriedOutWhereNothingOfItExists) {
    const ViewPlan plan = planned();
    fs::remove_all(tree());
    fs::remove_all(home_->cache());
    const VcPaths paths = home_->create_vc().value();
    const fs::path init = directory() / "init";
    std::ofstream(init) << "init";
    const Result<FileView> view = build_file_view(plan, paths, init, kFilesMount);
    ASSERT_TRUE(view) << view.error().message();
    ASSERT_TRUE(make_mount_points(*view));
    const auto is_there = [&](const std::string& below) {
        return fs::exists(view->skeleton / fs::path(below).relative_path());
    };
    EXPECT_TRUE(is_there(path("work")));
    EXPECT_TRUE(is_there("/usr"));
    EXPECT_TRUE(is_there("/.ppdsm/init"));
    EXPECT_FALSE(is_there(path("data/set/file"))) << "its place is in the tree that is served";
    EXPECT_EQ(view->file_roots.size(), plan.roots.size());
    for (const SandboxMount& mount : view->mounts) {
        const bool is_roots = root(plan, mount.target) != nullptr;
        EXPECT_EQ(is_roots, mount.source == kFilesMount + mount.target) << mount.target;
    }
    EXPECT_FALSE(fs::exists(tree()));
}

TEST_F(ViewPlanTest, AtHomeAFileIsAMountPointOfItsKind) {
    record_.exposures.pop_back();
    record_.exposures.push_back({path("other/file"), false, {}});
    write("other/file", "text");
    const VcPaths paths = home_->create_vc().value();
    const fs::path init = directory() / "init";
    std::ofstream(init) << "init";
    for (const std::string& prefix : {std::string(), std::string(kFilesMount)}) {
        const FileView view = build_file_view(planned(), paths, init, prefix).value();
        ASSERT_TRUE(make_mount_points(view));
        EXPECT_TRUE(
            fs::is_regular_file(view.skeleton / fs::path(path("other/file")).relative_path()));
        fs::remove_all(paths.run());
    }
}

}  // namespace
}  // namespace ppdsm
