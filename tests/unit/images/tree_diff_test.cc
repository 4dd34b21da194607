// Goal: `ppdsm checkpoint diff` names what changed and nothing else. Method: dump a tree, have it
// make known changes, dump it again, compare.
#include "criu-glue/images/tree_diff.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "tests/unit/images/real_dump.h"

namespace ppdsm {
namespace {

class TreeDiffs : public testing::Test {
protected:
    void SetUp() override {
        const std::string missing = missing_for_real_dumps();
        if (!missing.empty()) GTEST_SKIP() << "SKIPPED, missing: " << missing;
        const Status made = dump_.make(true);
        ASSERT_TRUE(made) << made.error().message();
        before_ = std::make_unique<DirectorySource>(dump_.before());
        after_ = std::make_unique<DirectorySource>(dump_.after());
    }

    const ProcessDiff* find(const TreeDiff& diff, const std::string& fact) const {
        for (const ProcessDiff& process : diff.common) {
            if (process.pid == dump_.fact(fact)) return &process;
        }
        return nullptr;
    }

    PageCounts pages_at(const ProcessDiff& process, const std::string& fact) const {
        const std::uint64_t address = dump_.fact(fact);
        for (const MappingDiff& mapping : process.mappings) {
            const Mapping& where = mapping.after ? *mapping.after : *mapping.before;
            if (where.start <= address && address < where.end) return mapping.pages;
        }
        return {};
    }

    RealDump dump_;
    std::unique_ptr<DirectorySource> before_;
    std::unique_ptr<DirectorySource> after_;
};

TEST_F(TreeDiffs, NameChangedMemory) {
    const Result<TreeDiff> diff = diff_trees(*before_, *after_);
    ASSERT_TRUE(diff) << diff.error().message();
    const ProcessDiff* root = find(*diff, "root_pid");
    ASSERT_NE(root, nullptr);
    EXPECT_EQ(pages_at(*root, "private"), (PageCounts{2, 2, 1, 29}));
    EXPECT_EQ(pages_at(*root, "shared"), (PageCounts{1, 0, 0, 1}));
    EXPECT_EQ(pages_at(*root, "file_private"), (PageCounts{1, 0, 0, 0}));
    for (const MappingDiff& mapping : root->mappings) {
        const Mapping& where = mapping.after ? *mapping.after : *mapping.before;
        EXPECT_NE(where.kind, MappingKind::kMemfd) << "it did not change";
    }
    PageCounts sum;
    for (const MappingDiff& mapping : root->mappings) sum.changed += mapping.pages.changed;
    EXPECT_EQ(sum.changed, root->pages.changed);
}

TEST_F(TreeDiffs, NameProcessesDescriptorsAndFiles) {
    const Result<TreeDiff> diff = diff_trees(*before_, *after_);
    ASSERT_TRUE(diff) << diff.error().message();
    ASSERT_EQ(diff->added.size(), 1U);
    EXPECT_EQ(diff->added[0].pid, dump_.fact("late_pid"));
    EXPECT_EQ(diff->added[0].comm, "subject-late");
    ASSERT_EQ(diff->removed.size(), 1U);
    EXPECT_EQ(diff->removed[0].pid, dump_.fact("zombie_pid"));

    const ProcessDiff* root = find(*diff, "root_pid");
    ASSERT_NE(root, nullptr);
    EXPECT_TRUE(root->fields.empty()) << root->fields[0].field;
    const auto at = [&](const std::string& fact) {
        const auto found =
            std::find_if(root->descriptors.begin(), root->descriptors.end(),
                         [&](const DescriptorDiff& each) { return each.fd == dump_.fact(fact); });
        return found == root->descriptors.end() ? nullptr : &*found;
    };
    const DescriptorDiff* replaced = at("timerfd_fd");
    ASSERT_NE(replaced, nullptr);
    ASSERT_TRUE(replaced->before && replaced->after);
    EXPECT_EQ(replaced->before->kind, DescriptorKind::kTimerfd);
    EXPECT_EQ(replaced->after->description, "/dev/zero");
    const DescriptorDiff* extra = at("extra_fd");
    ASSERT_NE(extra, nullptr);
    EXPECT_FALSE(extra->before);
    ASSERT_TRUE(extra->after);
    EXPECT_TRUE(extra->after->close_on_exec);
    EXPECT_EQ(at("regular_fd"), nullptr);
    EXPECT_EQ(at("eventfd_fd"), nullptr);

    ASSERT_EQ(diff->files.size(), 1U);
    EXPECT_EQ(diff->files[0].path, "/dev/zero");
    EXPECT_FALSE(diff->files[0].in_before);
    EXPECT_TRUE(diff->files[0].in_after);
}

TEST_F(TreeDiffs, AreEmptyAgainstItself) {
    const Result<TreeDiff> diff = diff_trees(*before_, *before_);
    ASSERT_TRUE(diff) << diff.error().message();
    EXPECT_TRUE(diff->added.empty() && diff->removed.empty() && diff->files.empty());
    EXPECT_EQ(diff->common.size(), 4U);
    for (const ProcessDiff& process : diff->common) EXPECT_FALSE(process.differs());
    EXPECT_FALSE(diff->pages.differ());
    EXPECT_GT(diff->pages.unchanged, 0U);
}

TEST_F(TreeDiffs, BelieveAComparatorThatKnows) {
    MemorySource before(*before_);
    MemorySource after(*after_);
    const auto all_equal = [](const PageLocation&, const PageLocation&) {
        return std::optional<bool>(true);
    };
    const Result<TreeDiff> blind = diff_trees(before, before, nullptr);
    ASSERT_TRUE(blind);
    const std::uint64_t reads_without = before.reads;
    before.reads = 0;
    const Result<TreeDiff> diff = diff_trees(before, after, all_equal);
    ASSERT_TRUE(diff) << diff.error().message();
    EXPECT_EQ(diff->pages.changed, 0U);
    EXPECT_GT(diff->pages.added, 0U);
    EXPECT_LT(before.reads, reads_without) << "what it knows is not read";
}

}  // namespace
}  // namespace ppdsm
