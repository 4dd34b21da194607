#include "criu-glue/images/file_table.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "criu-glue/images/flag_text.h"
#include "criu-glue/images/image_file.h"
#include "criu_images.pb-c.h"

namespace ppdsm::images {

// Turns one record into words; one member a kind of file.
class FileDescriber {
public:
    FileDescriber(FileTable& table, const PpdsmImages__File& record)
        : table_(table), record_(record), file_(table.files_[record.id]) {}

    void describe() {
        describe_path_like();
        describe_kernel_object();
        describe_socket();
        describe_rest();
    }

private:
    void describe_path_like() {
        if (const auto* regular = record_.regular) {
            const std::uint32_t type = regular->mode & S_IFMT;
            const bool device = type == S_IFCHR || type == S_IFBLK;
            file_.kind = type == S_IFDIR ? DescriptorKind::kDirectory
                         : device        ? DescriptorKind::kDevice
                                         : DescriptorKind::kFile;
            file_.description = regular->name;
            file_.flags = regular->flags;
            if (file_.kind == DescriptorKind::kFile) {
                file_.position = regular->position;
                if (regular->has_size != 0) file_.size_bytes = regular->size;
            }
        } else if (const auto* memfd = record_.memfd) {
            file_.kind = DescriptorKind::kMemfd;
            file_.flags = memfd->flags;
            file_.position = memfd->position;
            table_.memory_inodes_[record_.id] = memfd->inode;
        } else if (const auto* terminal = record_.terminal) {
            file_.kind = DescriptorKind::kTerminal;
            file_.flags = terminal->flags;
            table_.terminal_ids_[record_.id] = terminal->terminal;
            if (terminal->has_file != 0) table_.path_files_[record_.id] = terminal->file;
        } else if (const auto* pipe = record_.pipe) {
            file_.kind = DescriptorKind::kPipe;
            file_.flags = pipe->flags;
            file_.pipe_id = pipe->pipe_id;
        } else if (const auto* fifo = record_.fifo) {
            file_.kind = DescriptorKind::kFifo;
            file_.pipe_id = fifo->pipe_id;
            if (fifo->has_file != 0) table_.path_files_[record_.id] = fifo->file;
        }
    }

    void describe_kernel_object() {
        if (const auto* event = record_.eventfd) {
            file_.kind = DescriptorKind::kEventfd;
            file_.description = "event counter";
            file_.state = fmt::format("counter {}", event->counter);
            file_.flags = event->flags;
        } else if (const auto* epoll = record_.epoll) {
            file_.kind = DescriptorKind::kEpoll;
            file_.flags = epoll->flags;
            std::vector<std::uint32_t> watched;
            for (std::size_t i = 0; i < epoll->n_targets; ++i) {
                watched.push_back(epoll->targets[i]->fd);
            }
            std::sort(watched.begin(), watched.end());
            file_.description = watched.empty()
                                    ? "watches nothing"
                                    : fmt::format("watches fd {}", fmt::join(watched, ", "));
        } else if (const auto* timer = record_.timerfd) {
            describe_timer(*timer);
        } else if (const auto* signal = record_.signalfd) {
            file_.kind = DescriptorKind::kSignalfd;
            file_.description = "signals " + signal_set_text(signal->mask);
            file_.flags = signal->flags;
        } else if (const auto* inotify = record_.inotify) {
            file_.kind = DescriptorKind::kInotify;
            file_.description = fmt::format("watches {} paths", inotify->n_targets);
            file_.flags = inotify->flags;
        } else if (const auto* pidfd = record_.pidfd) {
            file_.kind = DescriptorKind::kPidfd;
            file_.description = fmt::format("process {}", pidfd->pid);
            file_.flags = pidfd->flags;
        }
    }

    void describe_timer(const PpdsmImages__TimerFd& timer) {
        constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
        file_.kind = DescriptorKind::kTimerfd;
        file_.flags = timer.flags;
        file_.description = clock_text(timer.clock);
        if (timer.interval_s != 0 || timer.interval_ns != 0) {
            file_.description +=
                fmt::format(", every {}.{:09} s", timer.interval_s, timer.interval_ns);
        }
        if (timer.ticks != 0) file_.state = fmt::format("{} expirations unread", timer.ticks);
        // Unsigned: a silly number from a corrupt image wraps, which harms nobody.
        const std::uint64_t left = timer.value_s * kNanosecondsPerSecond + timer.value_ns;
        if (left != 0) file_.expires_in_ns = left;
    }

    void describe_socket() {
        if (const auto* internet = record_.internet) {
            file_.kind = DescriptorKind::kInternetSocket;
            file_.flags = internet->flags;
            file_.description = fmt::format(
                "{} {} -> {}", socket_type_text(internet->type),
                internet_address_text(internet->family, internet->source_address,
                                      internet->n_source_address, internet->source_port),
                internet_address_text(internet->family, internet->target_address,
                                      internet->n_target_address, internet->target_port));
        } else if (const auto* local = record_.unix_socket) {
            constexpr std::uint32_t kListening = 10;  // TCP_LISTEN, which unix sockets borrow.
            file_.kind = DescriptorKind::kUnixSocket;
            file_.flags = local->flags;
            file_.socket_inode = local->inode;
            file_.peer_inode = local->peer;
            file_.description =
                local->name.len == 0
                    ? socket_type_text(local->type)
                    : fmt::format("{} {}", socket_type_text(local->type), socket_name(local->name));
            if (local->state == kListening) file_.state = "listening";
        } else if (const auto* netlink = record_.netlink) {
            file_.kind = DescriptorKind::kNetlinkSocket;
            file_.description = fmt::format("protocol {}", netlink->protocol);
            file_.flags = netlink->flags;
        } else if (const auto* packet = record_.packet) {
            file_.kind = DescriptorKind::kPacketSocket;
            file_.description = fmt::format("protocol {}", packet->protocol);
            file_.flags = packet->flags;
        }
    }

    // An abstract name begins with a zero byte, which is written as @; a path may end in one.
    static std::string socket_name(const ProtobufCBinaryData& bytes) {
        std::string name(reinterpret_cast<const char*>(bytes.data), bytes.len);
        if (name.front() == '\0') {
            name.front() = '@';
        } else {
            name.resize(std::min(name.find('\0'), name.size()));
        }
        return name;
    }

    void describe_rest() {
        constexpr std::uint32_t kExternalType = 16;
        if (const auto* ns = record_.ns) {
            file_.kind = DescriptorKind::kNamespace;
            file_.description =
                fmt::format("namespace {} (clone flag {:#x})", ns->ns_id, ns->clone_flag);
            file_.flags = ns->flags;
        } else if (const auto* tun = record_.tun) {
            file_.description =
                std::string("network tunnel ") + (tun->device != nullptr ? tun->device : "");
        } else if (record_.type == kExternalType) {
            file_.kind = DescriptorKind::kExternal;
            file_.description = "given from outside";
        } else if (file_.kind == DescriptorKind::kOther) {
            file_.description = fmt::format("CRIU's file type {}", record_.type);
        }
    }

    FileTable& table_;
    const PpdsmImages__File& record_;
    OpenFile& file_;
};

Result<FileTable> FileTable::read(ImageSource& source) {
    FileTable table;
    PPDSM_ASSIGN(const auto records,
                 read_records<PpdsmImages__File>(source, "files.img", Magic::kFiles,
                                                 ppdsm_images__file__descriptor));
    for (const auto& record : records) {
        if (table.files_.contains(record->id)) {
            return corrupt("files.img", fmt::format("has two files of id {}", record->id));
        }
        FileDescriber(table, *record).describe();
    }
    PPDSM_TRY(table.read_memory_files(source));
    PPDSM_TRY(table.read_terminals(source));
    for (const auto& [id, path_id] : table.path_files_) {
        const OpenFile* path = table.find(path_id);
        if (path == nullptr) {
            return corrupt("files.img", fmt::format("file {} refers to a missing {}", id, path_id));
        }
        table.files_[id].description = path->description;
        // A fifo's own record has no flags: those of its path are the ones it was opened with.
        if (table.files_[id].kind == DescriptorKind::kFifo) table.files_[id].flags = path->flags;
    }
    PPDSM_TRY(table.read_remapped(source));
    return table;
}

void FileTable::show_below(const std::string& root) {
    if (root == "/") return;
    for (auto& [id, file] : files_) {
        if (file.description == root) file.description = "/";
        if (file.description.starts_with(root + "/")) file.description.erase(0, root.size());
    }
}

Status FileTable::read_memory_files(ImageSource& source) {
    PPDSM_ASSIGN(const auto records, read_records<PpdsmImages__MemoryFileInode>(
                                         source, "memfd.img", Magic::kMemoryFiles,
                                         ppdsm_images__memory_file_inode__descriptor));
    std::map<std::uint64_t, const PpdsmImages__MemoryFileInode*> inodes;
    for (const auto& record : records) inodes[record->inode] = record.get();
    for (const auto& [id, inode] : memory_inodes_) {
        const auto found = inodes.find(inode);
        if (found == inodes.end()) {
            return corrupt("memfd.img",
                           fmt::format("lacks inode {}, which file {} is of", inode, id));
        }
        OpenFile& file = files_[id];
        file.description = std::string("memfd:") + found->second->name;
        file.size_bytes = found->second->size;
        file.segment = found->second->segment;
    }
    return {};
}

Status FileTable::read_terminals(ImageSource& source) {
    PPDSM_ASSIGN(const auto records,
                 read_records<PpdsmImages__Terminal>(source, "tty-info.img", Magic::kTerminals,
                                                     ppdsm_images__terminal__descriptor));
    std::map<std::uint32_t, const PpdsmImages__Terminal*> terminals;
    for (const auto& record : records) terminals[record->id] = record.get();
    for (const auto& [id, terminal_id] : terminal_ids_) {
        const auto found = terminals.find(terminal_id);
        if (found == terminals.end()) {
            return corrupt("tty-info.img",
                           fmt::format("lacks terminal {}, which file {} is of", terminal_id, id));
        }
        const PpdsmImages__Terminal& terminal = *found->second;
        OpenFile& file = files_[id];
        if (terminal.pty != nullptr) file.description = fmt::format("pty {}", terminal.pty->index);
        if (terminal.size != nullptr) {
            file.state = fmt::format("{} x {}", terminal.size->columns, terminal.size->rows);
        }
    }
    return {};
}

Status FileTable::read_remapped(ImageSource& source) {
    constexpr std::uint32_t kGhost = 1;
    PPDSM_ASSIGN(const auto records, read_records<PpdsmImages__RemappedPath>(
                                         source, "remap-fpath.img", Magic::kRemappedPaths,
                                         ppdsm_images__remapped_path__descriptor));
    for (const auto& record : records) {
        const auto file = files_.find(record->file);
        if (file == files_.end()) {
            return corrupt("remap-fpath.img", fmt::format("names a missing file {}", record->file));
        }
        file->second.deleted = true;
        // CRIU before 1.8 had no type, only ghosts.
        if (record->has_type == 0 || record->type == kGhost) file->second.ghost = record->remap;
    }
    return {};
}

const OpenFile* FileTable::find(std::uint32_t id) const {
    const auto file = files_.find(id);
    return file == files_.end() ? nullptr : &file->second;
}

}  // namespace ppdsm::images
