#include "tests/unit/files/tree_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

namespace ppdsm::test {

namespace {

std::int64_t nanoseconds(const struct timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::string attributes_of(const fs::path& path, Overlay overlay) {
    std::vector<char> names(65536);
    const ssize_t length = ::llistxattr(path.c_str(), names.data(), names.size());
    std::vector<std::string> found;
    for (ssize_t at = 0; at < length;) {
        const std::string name = &names[static_cast<std::size_t>(at)];
        at += static_cast<ssize_t>(name.size()) + 1;
        if (overlay == Overlay::kHidden && name.find(".overlay.") != std::string::npos) continue;
        char value[4096];
        const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value, sizeof value);
        found.push_back(name + "=" +
                        std::string(value, static_cast<std::size_t>(std::max<ssize_t>(size, 0))));
    }
    std::sort(found.begin(), found.end());
    std::string all;
    for (const std::string& one : found) all += " " + one;
    return all;
}

}  // namespace

void TreeTest::SetUp() {
    std::string pattern = fs::temp_directory_path() / "ppdsm-layer-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
}

void TreeTest::TearDown() {
    // An ordinary user cannot empty a directory that a test made read-only.
    const std::string open_up = "chmod -R u+rwX '" + directory_.string() + "'";
    EXPECT_EQ(std::system(open_up.c_str()), 0);
    fs::remove_all(directory_);
}

void write(const fs::path& path, std::string_view content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

void append(const fs::path& path, std::string_view content) {
    std::ofstream(path, std::ios::binary | std::ios::app) << content;
}

std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return "(absent)";
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
}

void set_mtime(const fs::path& path, std::int64_t ns) {
    const struct timespec times[2] = {{0, UTIME_OMIT}, {ns / 1'000'000'000, ns % 1'000'000'000}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
}

void set_attribute(const fs::path& path, const char* name, std::string_view value) {
    ASSERT_EQ(::lsetxattr(path.c_str(), name, value.data(), value.size(), 0), 0)
        << name << " on " << path;
}

void copy_tree(const fs::path& from, const fs::path& to) {
    const std::string command = "cp -a '" + from.string() + "' '" + to.string() + "'";
    ASSERT_EQ(std::system(command.c_str()), 0);
}

Tree describe(const fs::path& root, Overlay overlay) {
    Tree tree;
    std::map<ino_t, std::string> first_names;
    std::vector<fs::path> paths;
    for (const auto& entry : fs::recursive_directory_iterator(root)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const fs::path& path : paths) {
        const std::string name = path.lexically_relative(root);
        struct stat status{};
        if (::lstat(path.c_str(), &status) != 0) continue;
        std::ostringstream line;
        line << std::oct << status.st_mode << std::dec << " " << status.st_uid << ":"
             << status.st_gid << " " << nanoseconds(status.st_mtim) << attributes_of(path, overlay);
        if (S_ISREG(status.st_mode)) line << " \"" << read(path) << "\"";
        if (S_ISLNK(status.st_mode)) line << " -> " << fs::read_symlink(path).string();
        if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) line << " dev " << status.st_rdev;
        const bool whiteout = S_ISCHR(status.st_mode) && status.st_rdev == 0;
        if (!S_ISDIR(status.st_mode) && !whiteout && status.st_nlink > 1) {
            line << " one with " << first_names.emplace(status.st_ino, name).first->second;
        }
        tree[name] = line.str();
    }
    return tree;
}

std::string difference(const Tree& expected, const Tree& actual) {
    std::string lines;
    for (const auto& [path, line] : expected) {
        const auto found = actual.find(path);
        if (found == actual.end()) {
            lines += "missing " + path + "\n";
        } else if (found->second != line) {
            lines += path + "\n  expected " + line.substr(0, 300) + "\n  actual   " +
                     found->second.substr(0, 300) + "\n";
        }
    }
    for (const auto& [path, line] : actual) {
        if (expected.count(path) == 0) lines += "surplus " + path + "\n";
    }
    return lines;
}

std::int64_t now_unix_ns() {
    struct timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return nanoseconds(now);
}

void wait_until_files_are_newer(const fs::path& directory, std::int64_t unix_ns) {
    const fs::path probe = directory / ".probe";
    struct stat status{};
    do {
        fs::remove(probe);
        write(probe, "x");
        ASSERT_EQ(::stat(probe.c_str(), &status), 0);
    } while (nanoseconds(status.st_ctim) <= unix_ns);
    fs::remove(probe);
}

}  // namespace ppdsm::test
