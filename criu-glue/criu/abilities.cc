#include "criu-glue/criu/abilities.h"

#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/auxv.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <sstream>

#include "criu-glue/criu/cgroup_probe.h"
#include "criu-glue/criu/memory_probes.h"
#include "criu-glue/criu/namespace_probes.h"
#include "dsm/base/files.h"

namespace ppdsm {

namespace {

bool has_capability(unsigned number) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
    if (::syscall(SYS_capget, &header, data) != 0) return false;
    return (data[number / 32].effective >> (number % 32) & 1U) != 0;
}

ProbeResult probe_capability(unsigned number) {
    const bool held = has_capability(number);
    return {held, held ? "held" : "not held"};
}

ProbeResult probe_futex_waitv() {
    // Asks to wait for a value that is not there: the kernel that knows the call answers EAGAIN.
    struct Waiter {
        std::uint64_t value;
        std::uint64_t address;
        std::uint32_t flags;
        std::uint32_t reserved;
    };
    constexpr std::uint32_t kFutex32 = 2;
    constexpr long kFutexWaitv = 449;
    std::uint32_t word = 1;
    Waiter waiter{0, reinterpret_cast<std::uint64_t>(&word), kFutex32, 0};
    const long rc = ::syscall(kFutexWaitv, &waiter, 1U, 0U, nullptr, CLOCK_MONOTONIC);
    if (rc < 0 && errno == EAGAIN) return {true, "works"};
    return absent_errno("futex_waitv");
}

ProbeResult probe_vdso() {
    const bool mapped = ::getauxval(AT_SYSINFO_EHDR) != 0;
    return {mapped, mapped ? "mapped" : "the kernel maps none"};
}

ProbeResult probe_tools() {
    const char* variable = std::getenv("PATH");
    const std::string path =
        std::string(variable == nullptr ? "" : variable) + ":/usr/sbin:/usr/bin:/sbin:/bin";
    std::string missing;
    for (const char* tool : {"ip", "tar"}) {
        std::istringstream directories(path);
        bool found = false;
        for (std::string directory; !found && std::getline(directories, directory, ':');) {
            found = !directory.empty() && ::access((directory + "/" + tool).c_str(), X_OK) == 0;
        }
        if (!found) missing += std::string(missing.empty() ? "" : ", ") + tool;
    }
    return {missing.empty(), missing.empty() ? "ip, tar" : "not in PATH: " + missing};
}

/// CRIU keeps what it learned about the kernel in /run, or an ordinary user's runtime directory, if
/// that is a tmpfs.
ProbeResult probe_run_directory() {
    const char* user_directory = std::getenv("XDG_RUNTIME_DIR");
    if (::geteuid() != 0 && user_directory == nullptr) return {false, "XDG_RUNTIME_DIR is not set"};
    const std::string directory = ::geteuid() == 0 ? "/run" : user_directory;
    struct statfs status{};
    if (::statfs(directory.c_str(), &status) != 0) return absent_errno(directory);
    const bool tmpfs = static_cast<unsigned long>(status.f_type) == TMPFS_MAGIC;
    return {tmpfs, directory + (tmpfs ? " is a tmpfs" : " is not a tmpfs")};
}

std::vector<std::string> read_cpu_features() {
    std::vector<std::string> features;
    const Result<std::string> text = read_text("/proc/cpuinfo");
    if (!text) return features;
    std::istringstream lines(*text);
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
        std::istringstream words(line.substr(std::min(line.find(':'), line.size() - 1) + 1));
        for (std::string word; words >> word;) features.push_back(word);
        break;
    }
    std::sort(features.begin(), features.end());
    return features;
}

std::string kernel_option(const char* option, const char* since) {
    return std::string("a kernel ") + since + " with " + option;
}

void add_memory(std::vector<Ability>& list) {
    const auto add = [&list](const char* name, ProbeResult found, const char* cost,
                             std::string remedy) {
        list.push_back(
            {name, found.present, false, std::move(found.detail), cost, std::move(remedy)});
    };
    add("soft-dirty", probe_soft_dirty(),
        "CRIU cannot dump only what changed: the pause grows with resident memory (the bytes "
        "stored do "
        "not: pages are compared by content)",
        kernel_option("CONFIG_MEM_SOFT_DIRTY=y", "3.11 or newer"));
    add("userfaultfd", probe_userfaultfd(), "no shared pages between virtual threads",
        "as root: chmod 0666 /dev/userfaultfd (a udev rule keeps it), or sysctl "
        "vm.unprivileged_userfaultfd=1; " +
            kernel_option("CONFIG_USERFAULTFD=y", "6.1 or newer"));
    add("pagemap-scan", probe_pagemap_scan(), "changed pages are found by reading all of them",
        "a kernel 6.7 or newer");
    add("futex-waitv", probe_futex_waitv(),
        "the daemon wakes up regularly instead of waiting for many virtual threads at once",
        "a kernel 5.16 or newer; in a container: a seccomp profile that allows futex_waitv");
    add("vdso", probe_vdso(), "the clock costs a system call, and CRIU before 4.0 fails",
        "boot without vdso=0, or with a kernel that maps the vDSO");
}

void add_isolation(std::vector<Ability>& list) {
    const bool root = ::geteuid() == 0;
    const char* user_namespace_remedy =
        "sysctl user.max_user_namespaces=15000 and, where they exist, "
        "kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0";
    const auto add = [&list](const char* name, bool needed, ProbeResult found, const char* cost,
                             const char* remedy) {
        list.push_back({name, found.present, needed, std::move(found.detail), cost, remedy});
    };
    add("sandbox-namespaces", true, probe_sandbox_namespaces(), "no sandbox, hence no `ppdsm exec`",
        "run as root, or allow user namespaces; in a container: CAP_SYS_ADMIN and a seccomp "
        "profile "
        "that allows unshare and mount");
    add("user-namespaces", !root, probe_user_namespace(),
        root ? "programs in the sandbox run as the real root"
             : "an ordinary user has no sandbox, hence no `ppdsm exec`",
        user_namespace_remedy);
    add("overlay-in-user-namespace", !root, probe_overlay_in_user_namespace(),
        "no private layer for a program's writes without root",
        "a kernel 5.11 or newer with overlayfs");
    add("map-files", false,
        {root, root ? "CRIU may open whatever a program maps"
                    : "CRIU has to open mapped files by their paths"},
        "programs that map memory files, deleted files or parts of shared memory, use System V "
        "objects or filter their system calls are not checkpointed",
        "run as root");
    add("time-namespaces", false, probe_time_namespace(),
        "after a restart of the machine, or on another one, CLOCK_MONOTONIC jumps in restored "
        "programs",
        "a kernel 5.6 or newer with CONFIG_TIME_NS=y");
    add("fuse", false, probe_fuse(),
        "files that a program asked for and was not shown are not named at the end of its run",
        "modprobe fuse; chmod 0666 /dev/fuse (the usual mode); in a container: pass the device in");
    add("cgroups", false, probe_cgroups(),
        "--memory and --cpus are not enforced, and machines are not shared fairly between runs",
        "run as root, or have a group delegated: systemd-run --user --scope -p Delegate=yes ppdsm "
        "...");
}

void add_privileges(std::vector<Ability>& list) {
    const auto add = [&list](const char* name, unsigned number, const char* cost) {
        ProbeResult found = probe_capability(number);
        list.push_back({name, found.present, false, std::move(found.detail), cost,
                        ::geteuid() == 0 ? "this root was given less than all: start its container "
                                           "with --cap-add of this name"
                                         : "run as root"});
    };
    add("CAP_SYS_ADMIN", CAP_SYS_ADMIN, "everything happens in a user namespace of your own");
    add("CAP_CHECKPOINT_RESTORE", CAP_CHECKPOINT_RESTORE,
        "pids can be chosen inside a user namespace of your own only");
    add("CAP_SYS_RESOURCE", CAP_SYS_RESOURCE,
        "programs of another user than yours cannot be dumped, nor limits above yours restored");
}

void add_criu_surroundings(std::vector<Ability>& list) {
    ProbeResult tools = probe_tools();
    list.push_back({"criu-tools", tools.present, true, std::move(tools.detail),
                    "CRIU cannot keep network namespaces (ip) and tmpfs contents (tar)",
                    "apt-get install iproute2 tar"});
    ProbeResult run = probe_run_directory();
    list.push_back({"criu-kernel-cache", run.present, false, std::move(run.detail),
                    "each start of CRIU costs 30-50 ms more",
                    "mount a tmpfs on /run; as an ordinary user: a login session sets "
                    "XDG_RUNTIME_DIR"});
}

void add_cpu(std::vector<Ability>& list, const std::vector<std::string>& features) {
    const int level = x86_level(features);
    std::string detail = std::to_string(features.size()) + " features";
    if (level > 0) detail += ", x86-64-v" + std::to_string(level);
    list.push_back({"cpu-features", !features.empty(), false, std::move(detail),
                    "checkpoints cannot be matched with machines that can restore them",
                    "mount /proc with a readable /proc/cpuinfo"});
}

}  // namespace

const Ability* Abilities::find(std::string_view name) const {
    const auto found = std::find_if(
        list.begin(), list.end(), [name](const Ability& ability) { return ability.name == name; });
    return found == list.end() ? nullptr : &*found;
}

Result<Abilities> probe_abilities() {
    struct statfs proc{};
    if (::statfs("/proc", &proc) != 0 ||
        static_cast<unsigned long>(proc.f_type) != PROC_SUPER_MAGIC) {
        return fail(Code::kUnsupported, "/proc is not mounted: mount -t proc proc /proc");
    }
    utsname name{};
    if (::uname(&name) != 0) return fail_errno("uname");
    Abilities abilities;
    abilities.kernel = name.release;
    abilities.machine = name.machine;
    abilities.uid = ::geteuid();
    abilities.cpu_features = read_cpu_features();
    add_isolation(abilities.list);
    add_privileges(abilities.list);
    add_criu_surroundings(abilities.list);
    add_memory(abilities.list);
    add_cpu(abilities.list, abilities.cpu_features);
    return abilities;
}

int x86_level(const std::vector<std::string>& cpu_features) {
    // System V ABI for x86-64, table 3.1, in the kernel's spelling.
    static const std::vector<std::vector<std::string_view>> kLevels = {
        {"cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"},
        {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
        {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
        {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}};
    int level = 0;
    for (const auto& wanted : kLevels) {
        for (const std::string_view feature : wanted) {
            if (std::find(cpu_features.begin(), cpu_features.end(), feature) ==
                cpu_features.end()) {
                return level;
            }
        }
        ++level;
    }
    return level;
}

}  // namespace ppdsm
