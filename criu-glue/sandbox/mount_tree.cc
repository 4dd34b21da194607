#include "criu-glue/sandbox/mount_tree.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dsm/base/files.h"

namespace ppdsm {

namespace {

Status mount_at(const char* source, const std::string& target, const char* type,
                unsigned long flags, const char* data) {
    if (::mount(source, target.c_str(), type, flags, data) != 0) {
        return fail_errno("mount " + std::string(source) + " at " + target);
    }
    return {};
}

/// Flags that a bind inherits and a remount in a user namespace may not clear.
unsigned long locked_flags(const std::string& target) {
    struct statfs info{};
    if (::statfs(target.c_str(), &info) != 0) return 0;
    unsigned long flags = 0;
    if ((info.f_flags & ST_NODEV) != 0) flags |= MS_NODEV;
    if ((info.f_flags & ST_NOEXEC) != 0) flags |= MS_NOEXEC;
    if ((info.f_flags & ST_NOSUID) != 0) flags |= MS_NOSUID;
    return flags;
}

Status bind_mount(const std::string& source, const std::string& target, bool read_only) {
    PPDSM_TRY(mount_at(source.c_str(), target, nullptr, MS_BIND, nullptr));
    if (!read_only) return {};
    return mount_at("none", target, nullptr,
                    MS_BIND | MS_REMOUNT | MS_RDONLY | locked_flags(target), nullptr);
}

/// A directory, or a file for a source that is none.
Status make_mount_point(const std::string& source, const std::string& path) {
    struct stat info{};
    if (::stat(source.c_str(), &info) != 0) return fail_errno("expose " + source);
    if (S_ISDIR(info.st_mode)) return make_directories(path);
    PPDSM_TRY(open_file(path, O_CREAT | O_WRONLY));
    return {};
}

/// Overlay's option separators inside a path are escaped by a backslash.
std::string escape_option(const std::string& path) {
    std::string escaped;
    for (const char c : path) {
        if (c == ',' || c == ':' || c == '\\') escaped += '\\';
        escaped += c;
    }
    return escaped;
}

Status mount_overlay(const SandboxMount& mount, const std::string& target, bool privileged) {
    const std::string options = "lowerdir=" + escape_option(mount.source) +
                                ",upperdir=" + escape_option(mount.upper) +
                                ",workdir=" + escape_option(mount.work) +
                                (privileged ? ",redirect_dir=off,metacopy=off"
                                            // CRIU finds mapped files by device and inode then.
                                            : ",userxattr,xino=on");
    return mount_at("overlay", target, "overlay", 0, options.c_str());
}

Status mount_union(const SandboxMount& mount, const std::string& target, bool privileged) {
    const std::string options = "lowerdir=" + escape_option(mount.source) + ":" + kTreeRoot +
                                escape_option(mount.target) + (privileged ? "" : ",userxattr");
    return mount_at("overlay", target, "overlay", MS_RDONLY, options.c_str());
}

Status prepare_mount(const SandboxMount& mount, bool privileged) {
    const std::string path = prepared_path(mount);
    PPDSM_TRY(make_mount_point(mount.source, path));
    switch (mount.kind) {
        case SandboxMount::Kind::kReadOnlyBind: return bind_mount(mount.source, path, true);
        case SandboxMount::Kind::kBind: return bind_mount(mount.source, path, false);
        case SandboxMount::Kind::kOverlay: return mount_overlay(mount, path, privileged);
        case SandboxMount::Kind::kUnion: return mount_union(mount, path, privileged);
    }
    return fail(Code::kCorrupt, "unknown kind of mount at " + mount.target);
}

Status put_together(const SandboxSpec& spec) {
    for (const SandboxMount& mount : spec.mounts) {
        const std::string target = kTreeRoot + mount.target;
        PPDSM_TRY(mount_at(prepared_path(mount).c_str(), target, nullptr, MS_BIND, nullptr));
    }
    return mount_at("devpts", std::string(kTreeRoot) + "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                    "newinstance,ptmxmode=0666,mode=0620");
}

/// The kernel asks for its first user's id here, which root's programs have, not for a power, which
/// they have not: whoever may write core_pattern runs what he likes outside.
Status protect_kernel_settings() {
    for (const char* name : {"sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "mtrr"}) {
        const std::string path = std::string(kTreeRoot) + "/proc/" + name;
        if (::access(path.c_str(), F_OK) == 0) PPDSM_TRY(bind_mount(path, path, true));
    }
    return {};
}

Status enter_working_directory(const SandboxSpec& spec) {
    if (::chdir(spec.working_directory.c_str()) == 0) return {};
    return fail_errno("enter the working directory " + spec.working_directory);
}

}  // namespace

std::string prepared_path(const SandboxMount& mount) { return "/run/ppdsm/mounts/" + mount.key(); }

Status bind_skeleton(const SandboxSpec& spec) {
    PPDSM_TRY(make_directories(kTreeRoot));
    return bind_mount(spec.skeleton, kTreeRoot, true);
}

Status prepare_mounts(const SandboxSpec& spec, bool privileged) {
    PPDSM_TRY(make_directories("/run/ppdsm/mounts"));
    for (const SandboxMount& mount : spec.mounts) PPDSM_TRY(prepare_mount(mount, privileged));
    return privileged ? Status() : put_together(spec);
}

Status enter_mounts(const SandboxSpec& spec) {
    // A mount that came from a more privileged namespace is locked; a bind of it may be pivoted to.
    PPDSM_TRY(mount_at(kTreeRoot, kTreeRoot, nullptr, MS_BIND, nullptr));
    PPDSM_TRY(put_together(spec));
    PPDSM_TRY(mount_tree_proc());
    PPDSM_TRY(protect_kernel_settings());
    if (::chdir(kTreeRoot) != 0) return fail_errno("enter the sandbox's root");
    if (::syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno("pivot into the sandbox");
    if (::umount2(".", MNT_DETACH) != 0) return fail_errno("detach the old root");
    return enter_working_directory(spec);
}

Status enter_shared_mounts(const SandboxSpec& spec) {
    PPDSM_TRY(mount_tree_proc());
    if (::chroot(kTreeRoot) != 0) return fail_errno("enter the sandbox's root");
    return enter_working_directory(spec);
}

Status mount_tree_proc() {
    return mount_at("proc", std::string(kTreeRoot) + "/proc", "proc",
                    MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
}

std::vector<SandboxMount> device_mounts() {
    std::vector<SandboxMount> mounts;
    for (const char* name : {"null", "zero", "full", "random", "urandom", "tty"}) {
        const std::string path = std::string("/dev/") + name;
        mounts.push_back({SandboxMount::Kind::kBind, path, path, {}, {}});
    }
    return mounts;
}

}  // namespace ppdsm
