// The open files of a whole tree ("files.img" and what completes it), by CRIU's file id. Internal
// to this room.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "criu-glue/images/image_source.h"
#include "criu-glue/images/process_image.h"
#include "dsm/base/result.h"

namespace ppdsm::images {

struct OpenFile {
    DescriptorKind kind = DescriptorKind::kOther;
    std::string description;
    std::string state;
    std::uint32_t flags = 0;
    std::optional<std::uint64_t> position;
    std::optional<std::uint64_t> size_bytes;
    std::optional<std::uint64_t> expires_in_ns;
    std::optional<std::uint32_t> pipe_id;
    std::optional<std::uint32_t> socket_inode;
    std::uint32_t peer_inode = 0;          ///< Of a connected unix socket.
    std::optional<std::uint32_t> segment;  ///< Of a memfd: where its pages are.
    std::optional<std::uint32_t> ghost;    ///< Number of the ghost image that has its content.
    bool deleted = false;
};

class FileTable {
public:
    static Result<FileTable> read(ImageSource& source);

    /// Null when there is none: "cwd of a dead process", or a corrupt image.
    [[nodiscard]] const OpenFile* find(std::uint32_t id) const;
    [[nodiscard]] const std::map<std::uint32_t, OpenFile>& files() const { return files_; }

    /// Makes paths those that a tree with this root directory sees.
    void show_below(const std::string& root);

private:
    Status read_memory_files(ImageSource& source);
    Status read_terminals(ImageSource& source);
    Status read_remapped(ImageSource& source);

    std::map<std::uint32_t, OpenFile> files_;
    std::map<std::uint32_t, std::uint32_t> memory_inodes_;  ///< File id -> memfd inode.
    std::map<std::uint32_t, std::uint32_t> terminal_ids_;   ///< File id -> terminal.
    std::map<std::uint32_t, std::uint32_t> path_files_;     ///< File id -> file with its path.

    friend class FileDescriber;
};

}  // namespace ppdsm::images
