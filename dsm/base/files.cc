#include "dsm/base/files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <string>
#include <system_error>

namespace ppdsm {

namespace fs = std::filesystem;

namespace {
constexpr std::string_view kPendingMark = ".pending-";
}

Result<OwnedFd> open_file(const fs::path& path, int flags, unsigned mode) {
    OwnedFd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
    if (!fd.valid()) return fail_errno("open " + path.string());
    return fd;
}

Result<OwnedFd> open_file_at(const OwnedFd& dir, const fs::path& path, int flags, unsigned mode) {
    OwnedFd fd(::openat(dir.get(), path.c_str(), flags | O_CLOEXEC, mode));
    if (!fd.valid()) return fail_errno("open " + path.string());
    return fd;
}

Status write_all(const OwnedFd& fd, ByteView data) {
    while (!data.empty()) {
        const ssize_t written = ::write(fd.get(), data.data(), data.size());
        if (written < 0) {
            if (errno == EINTR) continue;
            return fail_errno("write");
        }
        data = data.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

Status write_all_at(const OwnedFd& fd, ByteView data, std::uint64_t offset_bytes) {
    while (!data.empty()) {
        const ssize_t written =
            ::pwrite(fd.get(), data.data(), data.size(), static_cast<off_t>(offset_bytes));
        if (written < 0) {
            if (errno == EINTR) continue;
            return fail_errno("write");
        }
        data = data.subspan(static_cast<std::size_t>(written));
        offset_bytes += static_cast<std::uint64_t>(written);
    }
    return {};
}

Status read_exactly_at(const OwnedFd& fd, std::span<std::uint8_t> into,
                       std::uint64_t offset_bytes) {
    while (!into.empty()) {
        const ssize_t got =
            ::pread(fd.get(), into.data(), into.size(), static_cast<off_t>(offset_bytes));
        if (got < 0) {
            if (errno == EINTR) continue;
            return fail_errno("read");
        }
        if (got == 0) return fail(Code::kCorrupt, "ends early");
        into = into.subspan(static_cast<std::size_t>(got));
        offset_bytes += static_cast<std::uint64_t>(got);
    }
    return {};
}

Result<Bytes> read_file(const fs::path& path, std::uint64_t limit_bytes) {
    PPDSM_ASSIGN(const OwnedFd fd, open_file(path, O_RDONLY));
    Bytes content;
    Bytes piece(std::size_t{64} << 10);
    for (;;) {
        const ssize_t got = ::read(fd.get(), piece.data(), piece.size());
        if (got < 0) {
            if (errno == EINTR) continue;
            return fail_errno("read " + path.string());
        }
        if (got == 0) return content;
        if (content.size() + static_cast<std::size_t>(got) > limit_bytes) {
            return fail(Code::kCorrupt, path.string() + " is larger than the " +
                                            std::to_string(limit_bytes) + " bytes it may have");
        }
        content.insert(content.end(), piece.begin(), piece.begin() + got);
    }
}

Result<std::string> read_text(const fs::path& path, std::uint64_t limit_bytes) {
    PPDSM_ASSIGN(const Bytes content, read_file(path, limit_bytes));
    return std::string(as_text(content));
}

Status sync_fd(const OwnedFd& fd) {
    if (::fsync(fd.get()) != 0) return fail_errno("fsync");
    return {};
}

Status sync_directory(const fs::path& directory) {
    PPDSM_ASSIGN(const OwnedFd fd, open_file(directory, O_RDONLY | O_DIRECTORY));
    return sync_fd(fd);
}

Status replace_file(const fs::path& path, ByteView data, unsigned mode) {
    PPDSM_ASSIGN(PendingFile file, PendingFile::create(path, mode));
    if (Status written = write_all(file.fd(), data); !written) {
        return fail(written.error().within(path.string()));
    }
    return file.commit();
}

Result<PendingFile> PendingFile::create(const fs::path& final_path, unsigned mode) {
    fs::path pending = final_path;
    pending += std::string(kPendingMark) + std::to_string(::getpid());
    PPDSM_ASSIGN(OwnedFd fd, open_file(pending, O_RDWR | O_CREAT | O_TRUNC, mode));
    return PendingFile(final_path, std::move(pending), std::move(fd));
}

PendingFile::PendingFile(fs::path final_path, fs::path pending_path, OwnedFd fd)
    : final_path_(std::move(final_path)),
      pending_path_(std::move(pending_path)),
      fd_(std::move(fd)) {}

PendingFile::PendingFile(PendingFile&& other) noexcept
    : final_path_(std::move(other.final_path_)),
      pending_path_(std::exchange(other.pending_path_, {})),
      fd_(std::move(other.fd_)) {}

PendingFile::~PendingFile() {
    if (!pending_path_.empty()) ::unlink(pending_path_.c_str());
}

Status PendingFile::commit() {
    PPDSM_TRY(sync_fd(fd_));
    if (::rename(pending_path_.c_str(), final_path_.c_str()) != 0) {
        return fail_errno("rename to " + final_path_.string());
    }
    pending_path_.clear();
    return sync_directory(final_path_.parent_path());
}

Status remove_stale_pending(const fs::path& directory) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
        if (entry.path().filename().string().find(kPendingMark) == std::string::npos) continue;
        std::error_code ignored;  // Another try comes with the next start.
        fs::remove(entry.path(), ignored);
    }
    if (error) return fail(Error::from_errno("list " + directory.string(), error.value()));
    return {};
}

Status make_directories(const fs::path& path, unsigned mode) {
    std::error_code error;
    if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
    if (error) {
        return fail(
            Error::from_errno("make directory " + path.parent_path().string(), error.value()));
    }
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
        return fail_errno("make directory " + path.string());
    }
    return {};
}

namespace {

void open_directories(const fs::path& path) {
    std::error_code error;
    if (fs::symlink_status(path, error).type() != fs::file_type::directory) return;
    fs::permissions(path, fs::perms::owner_all, error);
    for (const fs::directory_entry& entry : fs::directory_iterator(path, error)) {
        open_directories(entry.path());
    }
}

}  // namespace

Status remove_tree(const fs::path& path) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error == std::errc::permission_denied) {
        open_directories(path);
        fs::remove_all(path, error);
    }
    if (error) return fail(Error::from_errno("remove " + path.string(), error.value()));
    return {};
}

}  // namespace ppdsm
