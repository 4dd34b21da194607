#include "criu-glue/sandbox/file_tree.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <utility>

namespace ppdsm {

FileTree::FileTree(const std::vector<std::string>& roots) : roots_(roots.begin(), roots.end()) {
    for (const std::string& root : roots_) {
        for (std::size_t end = root.rfind('/'); end != std::string::npos && end > 0;
             end = root.rfind('/', end - 1)) {
            passages_.insert(root.substr(0, end));
        }
    }
    add({"/", passage(), {}, true, true, {}, {}});
}

FileAttributes FileTree::passage() {
    FileAttributes attributes;
    attributes.mode = S_IFDIR | 0755;
    attributes.links = 2;
    // The kernel refuses files whose owner has no id in its namespace.
    attributes.uid = ::geteuid();
    attributes.gid = ::getegid();
    return attributes;
}

FileTree::Node FileTree::add(Entry entry) {
    const Node node = entries_.size() + 1;
    nodes_.emplace(entry.path, node);
    entries_.push_back(std::move(entry));
    return node;
}

std::string FileTree::child_path(Node parent, std::string_view name) const {
    std::string path = parent == kTop ? "" : at(parent).path;
    path += '/';
    path += name;
    return path;
}

void FileTree::put_listing(Node node, DirectoryListing listing) {
    Entry& entry = at(node);
    if (entry.is_listed) return;
    entry.is_listed = true;
    // What the directory above showed stays.
    if (!std::exchange(entry.has_attributes, true)) entry.attributes = listing.self;
    entry.listing = std::move(listing);
}

std::optional<FileTree::Node> FileTree::child(Node parent, std::string_view name) {
    std::string path = child_path(parent, name);
    if (const auto known = nodes_.find(path); known != nodes_.end()) return known->second;
    if (roots_.contains(path)) return add({std::move(path), {}, {}, false, false, {}, {}});
    if (const ListedEntry* listed = at(parent).listing.find(name); listed != nullptr) {
        const bool has_children = S_ISDIR(listed->attributes.mode);
        return add({std::move(path),
                    listed->attributes,
                    listed->link_target,
                    true,
                    !has_children,
                    {},
                    {}});
    }
    if (passages_.contains(path)) return add({std::move(path), passage(), {}, true, true, {}, {}});
    return {};
}

const std::vector<FileTree::Child>& FileTree::children(Node parent) {
    Entry& entry = at(parent);
    if (entry.children) return *entry.children;
    std::vector<Child> children;
    for (const ListedEntry& listed : entry.listing.entries) {
        children.push_back({listed.name, listed.attributes.mode & S_IFMT});
    }
    const std::string prefix = child_path(parent, "");
    for (const auto* paths : {&roots_, &passages_}) {
        for (auto path = paths->lower_bound(prefix);
             path != paths->end() && path->starts_with(prefix); ++path) {
            const std::string name = path->substr(prefix.size());
            if (name.find('/') != std::string::npos || entry.listing.find(name) != nullptr)
                continue;
            const bool is_there = std::any_of(children.begin(), children.end(),
                                              [&](const Child& c) { return c.name == name; });
            if (!is_there) children.push_back({name, S_IFDIR});
        }
    }
    return entry.children.emplace(std::move(children));
}

struct stat FileTree::info(Node node) const {
    struct stat info{};
    const Entry& entry = at(node);
    entry.attributes.fill(info);
    info.st_ino = inode_of_path(entry.path);
    return info;
}

ino_t FileTree::inode_of_path(std::string_view path) {
    constexpr unsigned kMarkBits = 4;  // Overlay's, for file systems below it ("xino").
    return std::max<ino_t>(XXH3_64bits(path.data(), path.size()) >> kMarkBits, 2);
}

}  // namespace ppdsm
