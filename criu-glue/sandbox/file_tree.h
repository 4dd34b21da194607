// The tree that a file server shows: the owner's roots at their places, everything below them as
// their listings say, and what leads to them as empty directories of ours. Policy and memory only:
// the server asks for the listings (file_server.h).
//
// Listings never change once they are here, and nodes are never forgotten: there are as many as the
// kernel has been told of.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "criu-glue/sandbox/directory_listing.h"

namespace ppdsm {

class FileTree {
public:
    using Node = std::uint64_t;
    static constexpr Node kTop = 1;  ///< FUSE's number for the root.

    /// `roots`: absolute clean paths, which may lie within each other.
    explicit FileTree(const std::vector<std::string>& roots);

    [[nodiscard]] const std::string& path(Node node) const { return at(node).path; }
    /// Until then nothing may be asked about its children; of a root not even its attributes.
    [[nodiscard]] bool is_listed(Node node) const { return at(node).is_listed; }
    [[nodiscard]] bool has_attributes(Node node) const { return at(node).has_attributes; }
    void put_listing(Node node, DirectoryListing listing);

    /// None: there is nothing of that name, now and ever.
    [[nodiscard]] std::optional<Node> child(Node parent, std::string_view name);
    struct Child {
        std::string name;
        mode_t type;  ///< S_IFMT bits; S_IFDIR for a root that is not known yet.
    };
    /// In an order that does not change, without "." and "..".
    [[nodiscard]] const std::vector<Child>& children(Node parent);
    /// What stat(2) shows, but for the device. Inode numbers are hashes of the path: the same in
    /// every incarnation, and small enough that an overlay can keep its marks in the bits above.
    [[nodiscard]] struct stat info(Node node) const;
    [[nodiscard]] const std::string& link_target(Node node) const { return at(node).link_target; }
    [[nodiscard]] static ino_t inode_of_path(std::string_view path);

private:
    struct Entry {
        std::string path;
        FileAttributes attributes;
        std::string link_target;
        bool has_attributes = false;
        bool is_listed = false;
        DirectoryListing listing;
        std::optional<std::vector<Child>> children;
    };
    [[nodiscard]] const Entry& at(Node node) const { return entries_[node - 1]; }
    [[nodiscard]] Entry& at(Node node) { return entries_[node - 1]; }
    [[nodiscard]] std::string child_path(Node parent, std::string_view name) const;
    Node add(Entry entry);
    static FileAttributes passage();

    std::set<std::string> roots_;
    std::set<std::string> passages_;  ///< Directories that lead to roots.
    std::deque<Entry> entries_;
    std::unordered_map<std::string, Node> nodes_;
};

}  // namespace ppdsm
