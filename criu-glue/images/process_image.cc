#include "criu-glue/images/process_image.h"

#include <fmt/format.h>

#include <algorithm>

#include "criu-glue/images/address_space.h"
#include "criu-glue/images/file_table.h"
#include "criu-glue/images/flag_text.h"
#include "criu-glue/images/image_file.h"
#include "criu_images.pb-c.h"

namespace ppdsm {
namespace {

using images::corrupt;
using images::Magic;
using images::OpenFile;

constexpr std::uint32_t kAccessMode = 3;
constexpr std::uint32_t kReadOnly = 0;
constexpr std::uint32_t kWriteOnly = 1;

std::string machine_name(std::uint32_t machine) {
    constexpr const char* kNames[] = {"unknown", "x86_64", "arm",         "aarch64", "ppc64",
                                      "s390",    "mips",   "loongarch64", "riscv64"};
    return machine < std::size(kNames) ? kNames[machine] : fmt::format("machine {}", machine);
}

ProcessState state_of(std::uint32_t state) {
    switch (state) {
        case 1: return ProcessState::kRunning;
        case 3: return ProcessState::kStopped;
        case 2:  // "Dead", as CRIU writes zombies.
        case 6: return ProcessState::kZombie;
        default: return ProcessState::kOther;
    }
}

bool lives(ProcessState state) {
    return state == ProcessState::kRunning || state == ProcessState::kStopped;
}

Result<std::vector<std::string>> read_arguments(ImageSource& source,
                                                const images::AddressSpace& space) {
    // More is not for people; and a corrupt image may claim any length.
    constexpr std::uint64_t kMaxArgumentBytes = 16384;
    std::vector<std::string> arguments;
    const std::uint64_t start = space.arguments_start;
    if (space.arguments_end <= start) return arguments;
    Bytes bytes(std::min(space.arguments_end - start, kMaxArgumentBytes));
    PPDSM_ASSIGN(const auto holes, images::read_memory(source, space, start, bytes));
    const std::uint64_t known = holes.empty() ? bytes.size() : holes.front().start - start;
    std::string_view text = as_text(ByteView(bytes).first(known));
    while (!text.empty()) {
        const std::size_t length = std::min(text.find('\0'), text.size());
        arguments.emplace_back(text.substr(0, length));
        text.remove_prefix(std::min(length + 1, text.size()));
    }
    return arguments;
}

class TreeReader {
public:
    explicit TreeReader(ImageSource& source) : source_(source) {}

    Result<ProcessTree> read() {
        PPDSM_ASSIGN(const auto inventory, read_inventory());
        tree_.image_version = inventory->image_version;
        PPDSM_ASSIGN(files_, images::FileTable::read(source_));
        PPDSM_ASSIGN(const auto entries, images::read_records<PpdsmImages__TreeEntry>(
                                             source_, "pstree.img", Magic::kTree,
                                             ppdsm_images__tree_entry__descriptor));
        if (entries.empty()) return corrupt("pstree.img", "lists no process");
        PPDSM_TRY(find_root(entries.front()->pid));
        for (const auto& entry : entries) {
            PPDSM_TRY(read_process(*entry));
        }
        PPDSM_TRY(read_clock_offset());
        PPDSM_TRY(read_buffered("pipes-data.img", Magic::kPipesData));
        PPDSM_TRY(read_buffered("fifo-data.img", Magic::kFifoData));
        name_peers();
        for (auto& [id, pipe] : pipes_) tree_.pipes.push_back(std::move(pipe));
        PPDSM_TRY(read_deleted_files());
        PPDSM_TRY(sum_up());
        return std::move(tree_);
    }

private:
    Result<images::MessagePtr<PpdsmImages__Inventory>> read_inventory() {
        const Result<std::uint64_t> size = source_.size("inventory.img");
        if (!size) return fail(size.error().within("no CRIU images"));
        return images::read_single<PpdsmImages__Inventory>(
            source_, "inventory.img", Magic::kInventory, ppdsm_images__inventory__descriptor);
    }

    /// An ordinary user's tree has a root directory in place of mounts of its own, and CRIU names
    /// files by their paths from the real one.
    Status find_root(std::uint32_t init) {
        const std::string name = fmt::format("fs-{}.img", init);
        if (!source_.size(name)) return {};  // Ended already, or missing: found out later.
        PPDSM_ASSIGN(const auto fs,
                     images::read_single<PpdsmImages__FileSystem>(
                         source_, name, Magic::kFileSystem, ppdsm_images__file_system__descriptor));
        PPDSM_ASSIGN(const std::string root, path_of(fs->root_file, name));
        files_.show_below(root);
        return {};
    }

    Status read_process(const PpdsmImages__TreeEntry& entry) {
        if (tree_.find(entry.pid) != nullptr) {
            return corrupt("pstree.img", fmt::format("lists process {} twice", entry.pid));
        }
        ProcessImage process;
        process.pid = entry.pid;
        process.ppid = entry.ppid;
        process.pgid = entry.pgid;
        process.sid = entry.sid;
        const std::string core_name = fmt::format("core-{}.img", entry.pid);
        PPDSM_ASSIGN(const auto core, read_core(entry.pid));
        if (core->task == nullptr) return corrupt(core_name, "is that of a thread");
        tree_.machine = machine_name(core->machine);
        process.comm = core->task->command;
        process.state = state_of(core->task->state);
        process.exit_status = core->task->exit_code;
        PPDSM_TRY(read_threads(entry, *core, process));
        if (lives(process.state)) PPDSM_TRY(read_living(process));
        tree_.processes.push_back(std::move(process));
        return {};
    }

    Result<images::MessagePtr<PpdsmImages__Core>> read_core(std::uint32_t tid) {
        return images::read_single<PpdsmImages__Core>(source_, fmt::format("core-{}.img", tid),
                                                      Magic::kCore, ppdsm_images__core__descriptor);
    }

    Status read_threads(const PpdsmImages__TreeEntry& entry, const PpdsmImages__Core& own,
                        ProcessImage& process) {
        const auto add = [&](std::uint32_t tid, const PpdsmImages__ThreadCore* core) {
            ThreadImage thread{tid, process.comm, 0};
            if (core != nullptr && core->command != nullptr) thread.comm = core->command;
            if (core != nullptr) thread.seccomp_mode = core->seccomp_mode;
            process.threads.push_back(std::move(thread));
        };
        add(entry.pid, own.thread);
        // CRIU 4.1 lists a zombie's one thread under a number from uninitialised memory.
        if (!lives(process.state)) return {};
        for (std::size_t i = 0; i < entry.n_threads; ++i) {
            if (entry.threads[i] == entry.pid) continue;
            PPDSM_ASSIGN(const auto core, read_core(entry.threads[i]));
            add(entry.threads[i], core->thread);
        }
        return {};
    }

    Status read_living(ProcessImage& process) {
        const std::string fs_name = fmt::format("fs-{}.img", process.pid);
        PPDSM_ASSIGN(const auto fs, images::read_single<PpdsmImages__FileSystem>(
                                        source_, fs_name, Magic::kFileSystem,
                                        ppdsm_images__file_system__descriptor));
        PPDSM_ASSIGN(process.cwd, path_of(fs->cwd_file, fs_name));
        PPDSM_ASSIGN(process.root, path_of(fs->root_file, fs_name));
        PPDSM_ASSIGN(const auto space, images::read_address_space(source_, files_, process.pid));
        PPDSM_ASSIGN(process.exe, path_of(space.exe_file, fmt::format("mm-{}.img", process.pid)));
        process.mappings = space.mappings;
        PPDSM_ASSIGN(process.arguments, read_arguments(source_, space));
        return read_descriptors(process);
    }

    Result<std::string> path_of(std::uint32_t file_id, const std::string& image_name) {
        const OpenFile* file = files_.find(file_id);
        if (file == nullptr) {
            return corrupt(image_name,
                           fmt::format("refers to file {}, which files.img lacks", file_id));
        }
        return file->description;
    }

    Status read_descriptors(ProcessImage& process) {
        PPDSM_ASSIGN(const auto ids, images::read_single<PpdsmImages__KernelIds>(
                                         source_, fmt::format("ids-{}.img", process.pid),
                                         Magic::kIds, ppdsm_images__kernel_ids__descriptor));
        const std::string name = fmt::format("fdinfo-{}.img", ids->descriptors);
        PPDSM_ASSIGN(const auto records,
                     images::read_records<PpdsmImages__Descriptor>(
                         source_, name, Magic::kDescriptors, ppdsm_images__descriptor__descriptor));
        for (const auto& record : records) {
            const OpenFile* file = files_.find(record->id);
            if (file == nullptr) {
                return corrupt(name, fmt::format("has fd {} of file {}, which files.img lacks",
                                                 record->fd, record->id));
            }
            process.descriptors.push_back(describe(*record, *file, process.pid));
        }
        std::sort(process.descriptors.begin(), process.descriptors.end(),
                  [](const Descriptor& a, const Descriptor& b) { return a.fd < b.fd; });
        return {};
    }

    Descriptor describe(const PpdsmImages__Descriptor& record, const OpenFile& file,
                        std::uint32_t pid) {
        Descriptor descriptor;
        descriptor.fd = record.fd;
        descriptor.file_id = record.id;
        descriptor.kind = file.kind;
        descriptor.description = file.description;
        descriptor.state = file.state;
        descriptor.flags = images::open_flags_text(file.flags);
        constexpr std::uint32_t kCloseOnExec = 1;
        descriptor.close_on_exec = (record.flags & kCloseOnExec) != 0;
        descriptor.deleted = file.deleted;
        descriptor.position = file.position;
        descriptor.size_bytes = file.size_bytes;
        descriptor.expires_in_ns = file.expires_in_ns;
        descriptor.pipe_id = file.pipe_id;
        if (file.socket_inode) socket_holders_[*file.socket_inode].push_back({pid, record.fd});
        if (file.pipe_id) {
            PipeImage& pipe = pipes_[*file.pipe_id];
            pipe.id = *file.pipe_id;
            if (file.kind == DescriptorKind::kFifo) pipe.path = file.description;
            const std::uint32_t access = file.flags & kAccessMode;
            if (access != kWriteOnly) pipe.readers.push_back({pid, record.fd});
            if (access != kReadOnly) pipe.writers.push_back({pid, record.fd});
        }
        return descriptor;
    }

    static std::string holders_text(const std::vector<PipeEnd>& ends) {
        std::string text;
        for (const PipeEnd& end : ends) {
            text += fmt::format("{}fd {} of process {}", text.empty() ? "" : ", ", end.fd, end.pid);
        }
        return text.empty() ? "nobody in the tree" : text;
    }

    // Only now is it known who holds the other ends.
    void name_peers() {
        for (ProcessImage& process : tree_.processes) {
            for (Descriptor& descriptor : process.descriptors) {
                const OpenFile& file = *files_.find(descriptor.file_id);
                if (descriptor.kind == DescriptorKind::kPipe) {
                    const PipeImage& pipe = pipes_[*file.pipe_id];
                    descriptor.description =
                        (file.flags & kAccessMode) == kReadOnly
                            ? "read end, written by " + holders_text(pipe.writers)
                            : "write end, read by " + holders_text(pipe.readers);
                }
                if (descriptor.kind == DescriptorKind::kUnixSocket && file.peer_inode != 0) {
                    const auto peer = socket_holders_.find(file.peer_inode);
                    descriptor.description +=
                        ", connected to " + holders_text(peer == socket_holders_.end()
                                                             ? std::vector<PipeEnd>()
                                                             : peer->second);
                }
            }
        }
    }

    Status read_buffered(const std::string& name, Magic magic) {
        PPDSM_ASSIGN(const std::optional<Bytes> bytes, load_optional_image(source_, name));
        if (!bytes) return {};
        PPDSM_ASSIGN(images::RecordReader reader, images::RecordReader::open(name, *bytes, magic));
        while (!reader.at_end()) {
            PPDSM_ASSIGN(const auto record,
                         reader.next<PpdsmImages__PipeData>(ppdsm_images__pipe_data__descriptor));
            PPDSM_TRY(reader.raw(record->bytes));
            const auto pipe = pipes_.find(record->pipe_id);
            if (pipe == pipes_.end()) continue;
            pipe->second.buffered_bytes = record->bytes;
            pipe->second.capacity_bytes = record->capacity;
        }
        return {};
    }

    Status read_clock_offset() {
        PPDSM_ASSIGN(const auto records, images::read_records<PpdsmImages__TimeNamespace>(
                                             source_, "timens-0.img", Magic::kTimeNamespace,
                                             ppdsm_images__time_namespace__descriptor));
        if (records.empty()) return {};
        constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
        const PpdsmImages__TimeOffset& offset = *records.front()->monotonic;
        tree_.monotonic_offset_ns =
            static_cast<std::int64_t>(offset.seconds * kNanosecondsPerSecond + offset.nanoseconds);
        return {};
    }

    Status read_deleted_files() {
        std::map<std::uint32_t, DeletedFile> ghosts;
        for (const auto& [id, file] : files_.files()) {
            if (!file.ghost) continue;
            DeletedFile& ghost = ghosts[*file.ghost];
            ghost.image_name = fmt::format("ghost-file-{:x}.img", *file.ghost);
            ghost.path = file.description;
        }
        for (auto& [id, ghost] : ghosts) {
            PPDSM_ASSIGN(ghost.size_bytes, ghost_size(ghost.image_name));
            tree_.deleted_files.push_back(std::move(ghost));
        }
        return {};
    }

    // The content may be large: only the head is read.
    Result<std::uint64_t> ghost_size(const std::string& name) {
        constexpr std::uint64_t kMaxHeadBytes = 16384;
        const Result<std::uint64_t> total = source_.size(name);
        if (!total && total.error().code() == Code::kNotFound) {
            return corrupt(name, "is missing; remap-fpath.img refers to it");
        }
        if (!total) return fail(total.error());
        Bytes head(std::min(*total, kMaxHeadBytes));
        PPDSM_TRY(source_.read(name, 0, head));
        PPDSM_ASSIGN(images::RecordReader reader,
                     images::RecordReader::open(name, head, Magic::kGhostFile));
        PPDSM_ASSIGN(const auto record,
                     reader.next<PpdsmImages__GhostFile>(ppdsm_images__ghost_file__descriptor));
        const std::uint64_t content = *total - reader.position();
        if (record->has_size == 0) return content;
        if (record->chunked == 0 && content != 0 && content != record->size) {
            return corrupt(name,
                           fmt::format("holds {} bytes of a file of {}", content, record->size));
        }
        return record->size;
    }

    Status sum_up() {
        TreeTotals& totals = tree_.totals;
        for (const ProcessImage& process : tree_.processes) {
            ++totals.processes;
            totals.threads += process.threads.size();
            totals.descriptors += process.descriptors.size();
            totals.mapped_bytes += process.mapped_bytes();
        }
        for (const std::string& name : source_.names()) {
            PPDSM_ASSIGN(const std::uint64_t bytes, source_.size(name));
            totals.image_bytes += bytes;
            if (name.starts_with("pages-")) totals.page_bytes += bytes;
        }
        return {};
    }

    ImageSource& source_;
    images::FileTable files_;
    std::map<std::uint32_t, PipeImage> pipes_;
    std::map<std::uint32_t, std::vector<PipeEnd>> socket_holders_;  ///< By socket inode.
    ProcessTree tree_;
};

}  // namespace

std::uint64_t ProcessImage::mapped_bytes() const {
    std::uint64_t bytes = 0;
    for (const Mapping& mapping : mappings) bytes += mapping.size_bytes();
    return bytes;
}

std::uint64_t ProcessImage::image_bytes() const {
    std::uint64_t bytes = 0;
    for (const Mapping& mapping : mappings) bytes += mapping.image_bytes;
    return bytes;
}

const ProcessImage* ProcessTree::find(std::uint32_t pid) const {
    const auto process = std::find_if(processes.begin(), processes.end(),
                                      [&](const ProcessImage& each) { return each.pid == pid; });
    return process == processes.end() ? nullptr : &*process;
}

Result<ProcessTree> read_process_tree(ImageSource& source) { return TreeReader(source).read(); }

}  // namespace ppdsm
