// Goal: the tree shows the roots at their places, what leads to them, and nothing besides.
// Method: roots within each other and beside each other, with listings put in as they are asked
// for.
#include "criu-glue/sandbox/file_tree.h"

#include <gtest/gtest.h>

namespace ppdsm {
namespace {

using Node = FileTree::Node;

DirectoryListing listing(const std::vector<std::pair<std::string, mode_t>>& entries) {
    DirectoryListing made;
    made.self.mode = S_IFDIR | 0711;
    for (const auto& [name, mode] : entries) {
        ListedEntry entry{name, {}, S_ISLNK(mode) ? "somewhere" : ""};
        entry.attributes.mode = mode;
        made.entries.push_back(entry);
    }
    made.sort();
    return made;
}

/// Walks down; 0: there is no such thing.
Node find(FileTree& tree, const std::vector<std::string>& names) {
    Node node = FileTree::kTop;
    for (const std::string& name : names) {
        const std::optional<Node> next = tree.child(node, name);
        if (!next) return 0;
        node = *next;
    }
    return node;
}

std::vector<std::string> names(FileTree& tree, Node node) {
    std::vector<std::string> all;
    for (const FileTree::Child& child : tree.children(node)) all.push_back(child.name);
    return all;
}

TEST(FileTree, LeadsToItsRootsAndNowhereElse) {
    FileTree tree({"/usr", "/home/user/work", "/home/user/program"});
    EXPECT_EQ(names(tree, FileTree::kTop), (std::vector<std::string>{"usr", "home"}));
    EXPECT_EQ(find(tree, {"etc"}), 0U);
    EXPECT_EQ(find(tree, {"home", "other"}), 0U);
    const Node user = find(tree, {"home", "user"});
    ASSERT_NE(user, 0U);
    EXPECT_TRUE(tree.is_listed(user));
    EXPECT_TRUE(S_ISDIR(tree.info(user).st_mode));
    EXPECT_EQ(names(tree, user), (std::vector<std::string>{"program", "work"}));
    const Node work = find(tree, {"home", "user", "work"});
    EXPECT_FALSE(tree.has_attributes(work));
    tree.put_listing(work, listing({}));
    EXPECT_EQ(tree.info(work).st_mode, static_cast<mode_t>(S_IFDIR | 0711));
}

TEST(FileTree, ShowsWhatItsListingsShow) {
    FileTree tree({"/usr"});
    const Node usr = find(tree, {"usr"});
    EXPECT_FALSE(tree.is_listed(usr));
    tree.put_listing(
        usr,
        listing({{"bin", S_IFDIR | 0755}, {"file", S_IFREG | 0644}, {"link", S_IFLNK | 0777}}));
    EXPECT_EQ(names(tree, usr), (std::vector<std::string>{"bin", "file", "link"}));
    const Node file = find(tree, {"usr", "file"});
    EXPECT_TRUE(tree.has_attributes(file));
    EXPECT_EQ(tree.info(file).st_mode, static_cast<mode_t>(S_IFREG | 0644));
    EXPECT_EQ(tree.link_target(find(tree, {"usr", "link"})), "somewhere");
    EXPECT_EQ(find(tree, {"usr", "none"}), 0U);
    EXPECT_FALSE(tree.is_listed(find(tree, {"usr", "bin"})));
    EXPECT_EQ(find(tree, {"usr", "file"}), file) << "the same node whenever it is asked for";
}

TEST(FileTree, ARootWithinARootIsItself) {
    FileTree tree({"/data", "/data/inner", "/data/far/away"});
    const Node data = find(tree, {"data"});
    tree.put_listing(data, listing({{"inner", S_IFDIR | 0700}, {"plain", S_IFREG | 0600}}));
    const Node inner = find(tree, {"data", "inner"});
    EXPECT_FALSE(tree.has_attributes(inner));
    tree.put_listing(inner, listing({{"leaf", S_IFREG | 0600}}));
    EXPECT_EQ(tree.info(inner).st_mode, static_cast<mode_t>(S_IFDIR | 0711));
    EXPECT_NE(find(tree, {"data", "inner", "leaf"}), 0U);
    EXPECT_EQ(names(tree, data), (std::vector<std::string>{"inner", "plain", "far"}));
    EXPECT_NE(find(tree, {"data", "far", "away"}), 0U);
}

TEST(FileTree, AListingStaysAsItCameFirst) {
    FileTree tree({"/usr"});
    const Node usr = find(tree, {"usr"});
    tree.put_listing(usr, listing({{"one", S_IFREG}}));
    tree.put_listing(usr, listing({{"two", S_IFREG}}));
    EXPECT_NE(find(tree, {"usr", "one"}), 0U);
    EXPECT_EQ(find(tree, {"usr", "two"}), 0U);
}

TEST(FileTree, InodesAreThePathsAndLeaveRoomForMarks) {
    FileTree tree({"/usr"});
    FileTree other({"/other", "/usr"});
    EXPECT_EQ(tree.info(find(tree, {"usr"})).st_ino, other.info(find(other, {"usr"})).st_ino);
    EXPECT_NE(FileTree::inode_of_path("/usr"), FileTree::inode_of_path("/other"));
    for (int i = 0; i < 1000; ++i) {
        EXPECT_LT(FileTree::inode_of_path("/" + std::to_string(i)), ino_t{1} << 60);
    }
}

}  // namespace
}  // namespace ppdsm
