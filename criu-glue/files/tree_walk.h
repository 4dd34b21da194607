// One pass over a tree by directory descriptors. Paths are not built on the way: a node knows its
// parent, and all names lie in one string.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

class TreeWalk {
public:
    enum class Vanished { kIsError, kIsSkipped };

    struct Node {
        std::uint32_t parent = 0;  ///< Index; the root is its own parent.
        std::uint32_t name_bytes = 0;
        std::size_t name_offset = 0;
        struct stat status{};
    };
    /// Gets the node's directory, its name there ("" for the root) and its index.
    using Visit = std::function<Status(int directory_fd, const char* name, std::uint32_t index)>;

    /// Visits the root and everything below it, parents before children. With kIsSkipped the tree
    /// may change meanwhile.
    Status run(const OwnedFd& root, Vanished vanished, const Visit& visit);

    [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
    /// Relative to the root; "" is the root.
    [[nodiscard]] std::string path_of(std::uint32_t index) const;
    /// Room for as many nodes as the last walk found.
    void reserve(std::size_t nodes, std::size_t name_bytes);
    [[nodiscard]] std::size_t name_bytes() const { return names_.size(); }

private:
    Status walk_directory(int directory_fd, std::uint32_t self, int depth);
    Status add(int directory_fd, const char* name, std::uint32_t parent);
    [[nodiscard]] bool may_ignore(int error) const;

    std::vector<Node> nodes_;
    std::string names_;  ///< Each ends in NUL.
    std::vector<char> buffer_;
    Vanished vanished_ = Vanished::kIsError;
    const Visit* visit_ = nullptr;
};

}  // namespace ppdsm
