#include "criu-glue/files/copy_content.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

namespace ppdsm {

namespace {

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;

/// errnos of copy_file_range that say "not between these two", not "the disk is full".
bool kernel_copy_is_unavailable(int error) {
    return error == EXDEV || error == ENOSYS || error == EINVAL || error == EOPNOTSUPP ||
           error == EPERM || error == EBADF || error == ETXTBSY;
}

Status copy_by_reading(const OwnedFd& from, const OwnedFd& to, off_t begin, off_t end) {
    const auto piece = std::make_unique_for_overwrite<std::uint8_t[]>(kPieceBytes);
    while (begin < end) {
        const auto wanted =
            std::min<std::size_t>(kPieceBytes, static_cast<std::size_t>(end - begin));
        const ssize_t got = ::pread(from.get(), piece.get(), wanted, begin);
        if (got < 0) {
            if (errno == EINTR) continue;
            return fail_errno("read");
        }
        if (got == 0) return {};
        PPDSM_TRY(write_all_at(to, {piece.get(), static_cast<std::size_t>(got)},
                               static_cast<std::uint64_t>(begin)));
        begin += got;
    }
    return {};
}

Status copy_range(const OwnedFd& from, const OwnedFd& to, off_t begin, off_t end) {
    while (begin < end) {
        off_t from_offset = begin;
        off_t to_offset = begin;
        const ssize_t copied = ::copy_file_range(from.get(), &from_offset, to.get(), &to_offset,
                                                 static_cast<std::size_t>(end - begin), 0);
        if (copied < 0) {
            if (errno == EINTR) continue;
            if (kernel_copy_is_unavailable(errno)) return copy_by_reading(from, to, begin, end);
            return fail_errno("copy");
        }
        // Some file systems answer 0 where there is something to read.
        if (copied == 0) return copy_by_reading(from, to, begin, end);
        begin += copied;
    }
    return {};
}

}  // namespace

Status copy_content(const OwnedFd& from, const OwnedFd& to) {
    if (::ioctl(to.get(), FICLONE, from.get()) == 0) return {};
    struct stat status{};
    if (::fstat(from.get(), &status) != 0) return fail_errno("stat");
    const off_t size = status.st_size;
    off_t at = 0;
    while (at < size) {
        off_t data = ::lseek(from.get(), at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;  // Only a hole is left.
        if (data < 0) data = at;                // A file system without holes.
        off_t hole = ::lseek(from.get(), data, SEEK_HOLE);
        if (hole < 0 || hole > size) hole = size;
        PPDSM_TRY(copy_range(from, to, data, hole));
        at = std::max(hole, data + 1);
    }
    if (::ftruncate(to.get(), size) != 0) return fail_errno("set the size");
    return {};
}

Result<bool> same_bytes(const OwnedFd& a, const OwnedFd& b) {
    const auto ours = std::make_unique_for_overwrite<std::uint8_t[]>(kPieceBytes);
    const auto theirs = std::make_unique_for_overwrite<std::uint8_t[]>(kPieceBytes);
    off_t at = 0;
    for (;;) {
        const ssize_t got = ::pread(a.get(), ours.get(), kPieceBytes, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("read");
        ssize_t other = 0;
        const auto wanted = std::max<std::size_t>(static_cast<std::size_t>(got), 1);
        while (other < static_cast<ssize_t>(wanted)) {
            const ssize_t more = ::pread(b.get(), theirs.get() + other,
                                         wanted - static_cast<std::size_t>(other), at + other);
            if (more < 0 && errno == EINTR) continue;
            if (more < 0) return fail_errno("read");
            if (more == 0) break;
            other += more;
        }
        if (other != got) return false;
        if (got == 0) return true;
        if (std::memcmp(ours.get(), theirs.get(), static_cast<std::size_t>(got)) != 0) return false;
        at += got;
    }
}

OwnedFd open_regular(int directory_fd, const char* name) {
    constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    OwnedFd fd(::openat(directory_fd, name, kFlags | O_NOATIME));
    if (!fd.valid() && errno == EPERM) fd.reset(::openat(directory_fd, name, kFlags));
    return fd;
}

Result<std::string> read_link(int directory_fd, const char* name) {
    std::string target(256, '\0');
    for (;;) {
        const ssize_t length = ::readlinkat(directory_fd, name, target.data(), target.size());
        if (length < 0) return fail_errno("read the link");
        if (static_cast<std::size_t>(length) < target.size()) {
            target.resize(static_cast<std::size_t>(length));
            return target;
        }
        target.resize(target.size() * 2);
    }
}

}  // namespace ppdsm
