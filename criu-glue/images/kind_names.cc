// The words under which tables and JSON show the kinds of process_image.h.
#include "criu-glue/images/process_image.h"
#include "dsm/base/check.h"

namespace ppdsm {

std::string_view process_state_name(ProcessState state) {
    switch (state) {
        case ProcessState::kRunning: return "running";
        case ProcessState::kStopped: return "stopped";
        case ProcessState::kZombie: return "zombie";
        case ProcessState::kOther: return "other";
    }
    PPDSM_CHECK(false);
}

std::string_view mapping_kind_name(MappingKind kind) {
    switch (kind) {
        case MappingKind::kFile: return "file";
        case MappingKind::kMemfd: return "memfd";
        case MappingKind::kAnonymous: return "anonymous";
        case MappingKind::kSharedAnonymous: return "shared";
        case MappingKind::kSysvShared: return "sysv";
        case MappingKind::kHeap: return "heap";
        case MappingKind::kStack: return "stack";
        case MappingKind::kVdso: return "vdso";
        case MappingKind::kOther: return "other";
    }
    PPDSM_CHECK(false);
}

std::string_view descriptor_kind_name(DescriptorKind kind) {
    switch (kind) {
        case DescriptorKind::kFile: return "file";
        case DescriptorKind::kDirectory: return "directory";
        case DescriptorKind::kDevice: return "device";
        case DescriptorKind::kPipe: return "pipe";
        case DescriptorKind::kFifo: return "fifo";
        case DescriptorKind::kInternetSocket: return "socket";
        case DescriptorKind::kUnixSocket: return "unix";
        case DescriptorKind::kNetlinkSocket: return "netlink";
        case DescriptorKind::kPacketSocket: return "packet";
        case DescriptorKind::kEventfd: return "eventfd";
        case DescriptorKind::kEpoll: return "epoll";
        case DescriptorKind::kSignalfd: return "signalfd";
        case DescriptorKind::kTimerfd: return "timerfd";
        case DescriptorKind::kInotify: return "inotify";
        case DescriptorKind::kTerminal: return "terminal";
        case DescriptorKind::kMemfd: return "memfd";
        case DescriptorKind::kPidfd: return "pidfd";
        case DescriptorKind::kNamespace: return "namespace";
        case DescriptorKind::kExternal: return "external";
        case DescriptorKind::kOther: return "other";
    }
    PPDSM_CHECK(false);
}

}  // namespace ppdsm
