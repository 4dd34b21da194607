#include "criu-glue/files/tree_access.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

namespace ppdsm {

namespace {
constexpr int kDirectoryFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr std::size_t kListBytes = std::size_t{64} << 10;
}  // namespace

Result<OwnedFd> open_directory_at(int directory_fd, const char* name) {
    OwnedFd fd(::openat(directory_fd, name, kDirectoryFlags));
    if (!fd.valid()) return fail_errno(std::string("open directory ") + name);
    return fd;
}

Result<OwnedFd> reopen_directory(int directory_fd) { return open_directory_at(directory_fd, "."); }

Status for_each_name(int directory_fd, std::vector<char>& buffer,
                     const std::function<Status(const char*)>& visit) {
    if (buffer.size() < kListBytes) buffer.resize(kListBytes);
    for (;;) {
        const ssize_t length = ::getdents64(directory_fd, buffer.data(), buffer.size());
        if (length < 0) return fail_errno("list");
        if (length == 0) return {};
        for (ssize_t at = 0; at < length;) {
            const auto* entry = reinterpret_cast<const struct dirent64*>(buffer.data() + at);
            at += entry->d_reclen;
            const std::string_view name = entry->d_name;
            if (name == "." || name == "..") continue;
            PPDSM_TRY(visit(entry->d_name));
        }
    }
}

Result<std::vector<std::string>> sorted_names(int directory_fd) {
    PPDSM_ASSIGN(const OwnedFd listed, reopen_directory(directory_fd));
    std::vector<char> buffer;
    std::vector<std::string> names;
    PPDSM_TRY(for_each_name(listed.get(), buffer, [&](const char* name) -> Status {
        names.emplace_back(name);
        return {};
    }));
    std::sort(names.begin(), names.end());
    return names;
}

Result<OwnedFd> open_parent_beneath(int root_fd, std::string_view path) {
    PPDSM_ASSIGN(OwnedFd directory, reopen_directory(root_fd));
    for (std::size_t slash = path.find('/'); slash != std::string_view::npos;
         slash = path.find('/')) {
        const std::string component(path.substr(0, slash));
        PPDSM_ASSIGN(directory, open_directory_at(directory.get(), component.c_str()));
        path.remove_prefix(slash + 1);
    }
    return directory;
}

std::string_view last_component(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string join_path(std::string_view directory, std::string_view name) {
    std::string path(directory);
    if (!path.empty()) path += '/';
    path += name;
    return path;
}

Error too_deep(std::string_view path) {
    return {Code::kUnsupported, std::string(path) + ": directories nest deeper than the " +
                                    std::to_string(kMaxTreeDepth) + " levels that are followed"};
}

}  // namespace ppdsm
