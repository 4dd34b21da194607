// What a checkpoint holds, read from CRIU's images: processes, their memory mappings, descriptors
// and pipes. Pids and paths are those inside the sandbox. All strings are bytes as the program and
// CRIU wrote them; whoever shows them escapes them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "criu-glue/images/image_source.h"
#include "dsm/base/result.h"

namespace ppdsm {

enum class ProcessState { kRunning, kStopped, kZombie, kOther };

[[nodiscard]] std::string_view process_state_name(ProcessState state);

struct ThreadImage {
    std::uint32_t tid = 0;
    std::string comm;
    std::uint32_t seccomp_mode = 0;  ///< 0 none, 1 strict, 2 filter.
};

enum class MappingKind {
    kFile,
    kMemfd,
    kAnonymous,
    kSharedAnonymous,
    kSysvShared,
    kHeap,
    kStack,
    kVdso,  ///< vdso, vvar and vsyscall: the kernel's own.
    kOther,
};

[[nodiscard]] std::string_view mapping_kind_name(MappingKind kind);

struct Mapping {
    std::uint64_t start = 0;
    std::uint64_t end = 0;  ///< Exclusive.
    MappingKind kind = MappingKind::kOther;
    std::string protection;  ///< As in /proc/PID/maps: "rw-p".
    std::string flags;       ///< "MAP_PRIVATE|MAP_ANONYMOUS"
    std::string name;        ///< Path, "memfd:NAME", "[heap]", "[stack]", "[vdso]" or empty.
    bool deleted = false;    ///< The path is gone; its content is in the checkpoint.
    std::optional<std::uint64_t>
        file_bytes;                  ///< Size of the mapped file, where CRIU wrote it down.
    std::uint64_t offset_bytes = 0;  ///< In the file or the shared segment.
    /// Bytes of it that the checkpoint holds. What a file can give back is not in it, nor what was
    /// never touched.
    std::uint64_t image_bytes = 0;

    [[nodiscard]] std::uint64_t size_bytes() const { return end - start; }
    bool operator==(const Mapping&) const = default;
};

enum class DescriptorKind {
    kFile,
    kDirectory,
    kDevice,
    kPipe,
    kFifo,
    kInternetSocket,
    kUnixSocket,
    kNetlinkSocket,
    kPacketSocket,
    kEventfd,
    kEpoll,
    kSignalfd,
    kTimerfd,
    kInotify,
    kTerminal,
    kMemfd,
    kPidfd,
    kNamespace,
    kExternal,
    kOther,
};

[[nodiscard]] std::string_view descriptor_kind_name(DescriptorKind kind);

struct Descriptor {
    std::uint32_t fd = 0;
    std::uint32_t file_id = 0;  ///< Equal for descriptors that share one open file.
    DescriptorKind kind = DescriptorKind::kOther;
    std::string description;  ///< A path, or what it is: "write end, read by fd 3 of process 7".
    std::string state;        ///< What may change while it is open: "counter 7". May be empty.
    std::string flags;        ///< "O_RDWR|O_APPEND"
    bool close_on_exec = false;
    bool deleted = false;
    std::optional<std::uint64_t> position;       ///< Files and memfds.
    std::optional<std::uint64_t> size_bytes;     ///< Where CRIU wrote it down.
    std::optional<std::uint64_t> expires_in_ns;  ///< Timers that are armed.
    std::optional<std::uint32_t> pipe_id;        ///< Pipes and fifos.
};

struct ProcessImage {
    std::uint32_t pid = 0;
    std::uint32_t ppid = 0;  ///< 0: its parent is outside the tree.
    std::uint32_t pgid = 0;
    std::uint32_t sid = 0;
    std::string comm;
    ProcessState state = ProcessState::kOther;
    /// Zombies only: what wait(2) will say.
    std::uint32_t exit_status = 0;
    std::vector<ThreadImage> threads;  ///< The first is the process's own.
    // What follows is empty for zombies.
    std::vector<std::string> arguments;
    std::string exe;
    std::string cwd;
    std::string root;
    std::vector<Mapping> mappings;        ///< By address.
    std::vector<Descriptor> descriptors;  ///< By number.

    [[nodiscard]] std::uint64_t mapped_bytes() const;
    [[nodiscard]] std::uint64_t image_bytes() const;
};

struct PipeEnd {
    std::uint32_t pid = 0;
    std::uint32_t fd = 0;
};

/// A pipe or fifo that the tree holds an end of. Without readers or writers here the other end is
/// outside: the peer's own end of the program's standard streams.
struct PipeImage {
    std::uint32_t id = 0;
    std::string path;  ///< Fifos only.
    std::vector<PipeEnd> readers;
    std::vector<PipeEnd> writers;
    std::uint64_t buffered_bytes = 0;
    std::uint64_t capacity_bytes = 0;  ///< 0: unknown, as nothing was buffered.
};

/// A file that was deleted while open, so that its content is in the checkpoint.
struct DeletedFile {
    std::string image_name;
    std::string path;
    std::uint64_t size_bytes = 0;
};

struct TreeTotals {
    std::uint64_t processes = 0;
    std::uint64_t threads = 0;
    std::uint64_t descriptors = 0;
    std::uint64_t mapped_bytes = 0;
    std::uint64_t page_bytes = 0;   ///< Of all pages images: memory that several share counts once.
    std::uint64_t image_bytes = 0;  ///< Of all images.
};

struct ProcessTree {
    std::string machine;  ///< "x86_64"
    std::uint32_t image_version = 0;
    std::optional<std::int64_t> monotonic_offset_ns;  ///< Of the tree's clocks, where it has any.
    std::vector<ProcessImage> processes;              ///< As CRIU lists them: parents first.
    std::vector<PipeImage> pipes;
    std::vector<DeletedFile> deleted_files;
    TreeTotals totals;

    [[nodiscard]] const ProcessImage* find(std::uint32_t pid) const;
};

/// Reads all but the memory's content. Errors name the image: kCorrupt when it is not what CRIU
/// writes, kNotFound when there is no process tree in the source at all.
Result<ProcessTree> read_process_tree(ImageSource& source);

}  // namespace ppdsm
