#include "criu-glue/criu/namespace_probes.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"

namespace ppdsm {

namespace {

/// Empty when written.
std::string write_proc(const char* path, const std::string& text) {
    const Result<OwnedFd> file = open_file(path, O_WRONLY);
    if (!file) return file.error().message();
    if (Status written = write_all(*file, as_bytes(text)); !written) {
        return written.error().within(path).message();
    }
    return {};
}

/// Empty when we are root in a new user namespace and the further namespaces of `flags`.
std::string enter_user_namespace(int flags) {
    const uid_t uid = ::geteuid();
    const gid_t gid = ::getegid();
    if (::unshare(CLONE_NEWUSER | flags) != 0) return absent_errno("unshare").detail;
    std::string failure = write_proc("/proc/self/setgroups", "deny");
    if (failure.empty())
        failure = write_proc("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1");
    if (failure.empty())
        failure = write_proc("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1");
    return failure;
}

/// The same; root needs no user namespace.
std::string enter_namespaces(int flags) {
    if (::geteuid() != 0) return enter_user_namespace(flags);
    if (::unshare(flags) == 0) return {};
    const std::string refused = absent_errno("unshare").detail;
    // Root of a container may own less than root of a user namespace.
    return enter_user_namespace(flags).empty() ? std::string() : refused;
}

/// Empty when a tmpfs of our own covers /tmp: a place to build in that ends with us.
std::string cover_tmp() {
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        return absent_errno("make mounts private").detail;
    }
    if (::mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m") != 0) {
        return absent_errno("mount a tmpfs").detail;
    }
    return {};
}

ProbeResult try_user_namespace() {
    const std::string failure = enter_user_namespace(0);
    if (!failure.empty()) return {false, failure};
    return {::geteuid() == 0, "root inside"};
}

ProbeResult try_sandbox_namespaces() {
    const std::string failure =
        enter_namespaces(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET);
    if (!failure.empty()) return {false, failure};
    return {true, "pid, mount, ipc, uts and net"};
}

ProbeResult try_time_namespace() {
    std::string failure = enter_namespaces(CLONE_NEWTIME);
    if (failure.empty()) failure = write_proc("/proc/self/timens_offsets", "monotonic 1000 0");
    if (!failure.empty()) return {false, failure};
    return {true, "the monotonic clock can be shifted"};
}

ProbeResult try_overlay() {
    std::string failure = enter_user_namespace(CLONE_NEWNS);
    if (failure.empty()) failure = cover_tmp();
    if (!failure.empty()) return {false, failure};
    for (const char* directory : {"/tmp/lower", "/tmp/upper", "/tmp/work", "/tmp/merged"}) {
        if (::mkdir(directory, 0755) != 0) return absent_errno("mkdir");
    }
    if (Status written = replace_file("/tmp/lower/file", as_bytes("lower")); !written) {
        return {false, written.error().message()};
    }
    if (::mount("overlay", "/tmp/merged", "overlay", 0,
                "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr") != 0) {
        return absent_errno("mount");
    }
    if (Status written = replace_file("/tmp/merged/file", as_bytes("upper")); !written) {
        return {false, written.error().message()};
    }
    const Result<std::string> upper = read_text("/tmp/upper/file");
    const Result<std::string> lower = read_text("/tmp/lower/file");
    if (!upper || *upper != "upper" || !lower || *lower != "lower") {
        return {false, "a write does not go to the upper layer"};
    }
    return {true, "writes go to the upper layer"};
}

ProbeResult try_fuse() {
    std::string failure = enter_namespaces(CLONE_NEWNS);
    if (failure.empty()) failure = cover_tmp();
    if (!failure.empty()) return {false, failure};
    if (::mkdir("/tmp/fuse", 0755) != 0) return absent_errno("mkdir");
    // FUSE wants a descriptor that was opened in the user namespace that mounts.
    const Result<OwnedFd> device = open_file("/dev/fuse", O_RDWR);
    if (!device) return {false, device.error().message()};
    const std::string options =
        "fd=" + std::to_string(device->get()) + ",rootmode=40000,user_id=0,group_id=0";
    if (::mount("ppdsm-probe", "/tmp/fuse", "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
        return absent_errno("mount");
    }
    return {true, "mounts"};
}

}  // namespace

ProbeResult probe_user_namespace() { return probe_in_child(try_user_namespace); }
ProbeResult probe_sandbox_namespaces() { return probe_in_child(try_sandbox_namespaces); }
ProbeResult probe_time_namespace() { return probe_in_child(try_time_namespace); }
ProbeResult probe_overlay_in_user_namespace() { return probe_in_child(try_overlay); }
ProbeResult probe_fuse() { return probe_in_child(try_fuse); }

}  // namespace ppdsm
