#include "criu-glue/files/tree_walk.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "criu-glue/files/tree_access.h"

namespace ppdsm {

Status TreeWalk::run(const OwnedFd& root, Vanished vanished, const Visit& visit) {
    nodes_.clear();
    names_.clear();
    vanished_ = vanished;
    visit_ = &visit;
    Node node;
    names_.push_back('\0');
    if (::fstat(root.get(), &node.status) != 0) return fail_errno("stat");
    nodes_.push_back(node);
    PPDSM_TRY(visit(root.get(), "", 0));
    PPDSM_ASSIGN(const OwnedFd listed, reopen_directory(root.get()));
    return walk_directory(listed.get(), 0, 0);
}

Status TreeWalk::walk_directory(int directory_fd, std::uint32_t self, int depth) {
    if (depth >= kMaxTreeDepth) return fail(too_deep(path_of(self)));
    std::vector<std::uint32_t> directories;
    const Status listed = for_each_name(directory_fd, buffer_, [&](const char* name) -> Status {
        const std::size_t before = nodes_.size();
        PPDSM_TRY(add(directory_fd, name, self));
        if (nodes_.size() > before && S_ISDIR(nodes_.back().status.st_mode)) {
            directories.push_back(static_cast<std::uint32_t>(before));
        }
        return {};
    });
    if (!listed) {
        if (may_ignore(listed.error().errno_value())) return {};
        return listed;
    }
    for (const std::uint32_t index : directories) {
        const auto inner = open_directory_at(directory_fd, &names_[nodes_[index].name_offset]);
        if (!inner) {
            if (may_ignore(inner.error().errno_value())) continue;
            return fail(inner.error().within(path_of(index)));
        }
        PPDSM_TRY(walk_directory(inner->get(), index, depth + 1));
    }
    return {};
}

Status TreeWalk::add(int directory_fd, const char* name, std::uint32_t parent) {
    Node node;
    if (::fstatat(directory_fd, name, &node.status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (may_ignore(errno)) return {};
        return fail_errno("look at " + join_path(path_of(parent), name));
    }
    node.parent = parent;
    node.name_bytes = static_cast<std::uint32_t>(std::strlen(name));
    node.name_offset = names_.size();
    names_.append(name, node.name_bytes + 1);
    nodes_.push_back(node);
    const auto index = static_cast<std::uint32_t>(nodes_.size() - 1);
    if (Status visited = (*visit_)(directory_fd, name, index); !visited) {
        if (may_ignore(visited.error().errno_value())) return {};
        return fail(visited.error().within(path_of(index)));
    }
    return {};
}

bool TreeWalk::may_ignore(int error) const {
    return vanished_ == Vanished::kIsSkipped &&
           (error == ENOENT || error == ENOTDIR || error == ELOOP || error == ESTALE ||
            error == ENXIO || error == ENODEV);
}

std::string TreeWalk::path_of(std::uint32_t index) const {
    std::size_t bytes = 0;
    for (std::uint32_t at = index; at != 0; at = nodes_[at].parent) {
        bytes += nodes_[at].name_bytes + 1;
    }
    if (bytes == 0) return {};
    std::string path(bytes - 1, '/');
    std::size_t end = path.size();
    for (std::uint32_t at = index; at != 0; at = nodes_[at].parent) {
        const Node& node = nodes_[at];
        end -= node.name_bytes;
        names_.copy(path.data() + end, node.name_bytes, node.name_offset);
        if (end > 0) --end;
    }
    return path;
}

void TreeWalk::reserve(std::size_t nodes, std::size_t name_bytes) {
    nodes_.reserve(nodes);
    names_.reserve(name_bytes);
}

}  // namespace ppdsm
