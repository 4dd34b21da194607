#include "criu-glue/files/node_metadata.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "criu-glue/files/copy_content.h"

namespace ppdsm {

namespace {

constexpr std::string_view kOverlayPrefixes[] = {"trusted.overlay.", "user.overlay."};

/// The kernel's name of a descriptor or of a name below one: there are no *at calls for extended
/// attributes on the kernels that we support. A link in the last place is not followed by l* calls.
class ProcPath {
public:
    explicit ProcPath(int fd, const char* name = nullptr) {
        const int length =
            name == nullptr
                ? std::snprintf(text_.data(), text_.size(), "/proc/self/fd/%d", fd)
                : std::snprintf(text_.data(), text_.size(), "/proc/self/fd/%d/%s", fd, name);
        fits_ = length > 0 && static_cast<std::size_t>(length) < text_.size();
    }
    [[nodiscard]] const char* get() const { return fits_ ? text_.data() : ""; }

private:
    std::array<char, 320> text_{};  // A name has at most 255 bytes.
    bool fits_ = false;
};

bool means_none(int error) { return error == ENOTSUP || error == ENODATA; }

/// Labels that the machine's own policy gives; they do not travel.
bool is_machine_label(std::string_view name) {
    return name == "security.selinux" || name == "security.ima" || name == "security.evm";
}

Result<std::string> list_names(const char* path, bool follow) {
    std::array<char, 1024> first;
    const auto list = [&](char* into, std::size_t size) {
        return follow ? ::listxattr(path, into, size) : ::llistxattr(path, into, size);
    };
    ssize_t length = list(first.data(), first.size());
    if (length >= 0) return std::string(first.data(), static_cast<std::size_t>(length));
    std::string names;
    while (errno == ERANGE) {
        length = list(nullptr, 0);
        if (length < 0) break;
        names.resize(static_cast<std::size_t>(length) + 256);
        length = list(names.data(), names.size());
        if (length < 0) continue;
        names.resize(static_cast<std::size_t>(length));
        return names;
    }
    if (means_none(errno)) return std::string();
    return fail_errno("list the extended attributes");
}

/// Reads one value; an attribute that has just gone gives nothing.
Result<bool> read_value(const char* path, const char* name, std::string& value) {
    for (;;) {
        ssize_t length = ::lgetxattr(path, name, nullptr, 0);
        if (length >= 0) {
            value.resize(static_cast<std::size_t>(length));
            length = ::lgetxattr(path, name, value.data(), value.size());
        }
        if (length >= 0) {
            value.resize(static_cast<std::size_t>(length));
            return true;
        }
        if (errno == ERANGE) continue;
        if (means_none(errno)) return false;
        return fail_errno(std::string("read the extended attribute ") + name);
    }
}

Status write_attributes(const char* path, const Attributes& wanted,
                        std::vector<std::string>* lost) {
    PPDSM_ASSIGN(const std::string present, list_names(path, true));
    for (std::size_t at = 0; at < present.size(); at += std::strlen(&present[at]) + 1) {
        const char* name = &present[at];
        const bool keep = std::any_of(wanted.begin(), wanted.end(), [&](const auto& attribute) {
            return attribute.name == name;
        });
        // What cannot be removed was not ours to decide: a security module put it there.
        if (!keep && !is_machine_label(name)) ::removexattr(path, name);
    }
    for (const auto& [name, value] : wanted) {
        if (::setxattr(path, name.c_str(), value.data(), value.size(), 0) == 0) continue;
        if (is_machine_label(name)) continue;
        Error error = Error::from_errno("set the extended attribute " + name);
        if (lost == nullptr) return fail(std::move(error));
        lost->push_back(error.message());
    }
    return {};
}

/// Returns the mode that may be given afterwards.
Result<std::uint32_t> write_owner(const OwnedFd& fd, const NodeMetadata& metadata,
                                  std::vector<std::string>* lost) {
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0) return fail_errno("stat");
    if (status.st_uid == metadata.uid && status.st_gid == metadata.gid) return metadata.mode;
    if (::fchownat(fd.get(), "", metadata.uid, metadata.gid, AT_EMPTY_PATH) == 0) {
        return metadata.mode;
    }
    // An ordinary user's own file: only its group is one that the user may not give.
    if (errno == EPERM && ::geteuid() != 0 && metadata.uid == ::geteuid()) {
        return metadata.mode & ~std::uint32_t{S_ISGID};
    }
    Error error = Error::from_errno("give it to user " + std::to_string(metadata.uid) + " group " +
                                    std::to_string(metadata.gid) + " (run as root to keep owners)");
    if (lost == nullptr) return fail(std::move(error));
    lost->push_back(error.message());
    return metadata.mode & ~std::uint32_t{S_ISUID | S_ISGID};
}

}  // namespace

Result<Attributes> read_attributes(int directory_fd, const char* name) {
    // An empty name means the directory itself.
    const ProcPath path(directory_fd, *name == '\0' ? "." : name);
    PPDSM_ASSIGN(const std::string names, list_names(path.get(), false));
    Attributes attributes;
    std::string value;
    for (std::size_t at = 0; at < names.size(); at += std::strlen(&names[at]) + 1) {
        PPDSM_ASSIGN(const bool found, read_value(path.get(), &names[at], value));
        if (found) attributes.push_back({&names[at], value});
    }
    std::sort(attributes.begin(), attributes.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return attributes;
}

bool is_overlay_attribute(std::string_view name) {
    return std::any_of(std::begin(kOverlayPrefixes), std::end(kOverlayPrefixes),
                       [&](std::string_view prefix) { return name.starts_with(prefix); });
}

const std::string* find_overlay_attribute(const Attributes& attributes, std::string_view suffix) {
    for (const auto& [name, value] : attributes) {
        for (const std::string_view prefix : kOverlayPrefixes) {
            if (name.size() == prefix.size() + suffix.size() && name.starts_with(prefix) &&
                name.ends_with(suffix)) {
                return &value;
            }
        }
    }
    return nullptr;
}

NodeMetadata metadata_of(const struct stat& status, Attributes attributes) {
    return {status.st_mode & 07777u, status.st_uid, status.st_gid, nanoseconds(status.st_mtim),
            std::move(attributes)};
}

Result<OwnedFd> pin_node(int directory_fd, const char* name) {
    OwnedFd fd(::openat(directory_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) return fail_errno("open");
    return fd;
}

Status write_metadata(const OwnedFd& fd, const NodeMetadata& metadata,
                      std::vector<std::string>* lost) {
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0) return fail_errno("stat");
    const ProcPath path(fd.get());
    // In this order: a change of owner clears set-id bits and file capabilities.
    PPDSM_ASSIGN(const std::uint32_t mode, write_owner(fd, metadata, lost));
    PPDSM_TRY(write_attributes(path.get(), metadata.attributes, lost));
    if (!S_ISLNK(status.st_mode) && ::chmod(path.get(), mode) != 0) {
        return fail_errno("change the mode");
    }
    std::int64_t seconds = metadata.mtime_ns / 1'000'000'000;
    std::int64_t rest = metadata.mtime_ns % 1'000'000'000;
    if (rest < 0) {
        rest += 1'000'000'000;
        --seconds;
    }
    const struct timespec times[2] = {{0, UTIME_OMIT}, {seconds, rest}};
    if (::utimensat(AT_FDCWD, path.get(), times, 0) != 0) return fail_errno("set the time");
    return {};
}

}  // namespace ppdsm
