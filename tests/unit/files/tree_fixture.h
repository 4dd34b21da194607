// Real directory trees for the tests of layers: made, changed, and described so that two of them
// can be compared with one look.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace ppdsm::test {

namespace fs = std::filesystem;

class TreeTest : public testing::Test {
protected:
    void SetUp() override;
    void TearDown() override;
    fs::path directory_;
};

void write(const fs::path& path, std::string_view content);
void append(const fs::path& path, std::string_view content);
std::string read(const fs::path& path);
/// Sets the modification time, to the nanosecond.
void set_mtime(const fs::path& path, std::int64_t ns);
void set_attribute(const fs::path& path, const char* name, std::string_view value);
/// cp -a
void copy_tree(const fs::path& from, const fs::path& to);

/// Path -> everything that a program could see of it: type, mode, owner, mtime, attributes
/// (overlay's own only on request), content or target, and which names are one file.
using Tree = std::map<std::string, std::string>;
enum class Overlay { kShown, kHidden };
Tree describe(const fs::path& root, Overlay overlay);
/// The lines in which two trees differ; empty when equal.
std::string difference(const Tree& expected, const Tree& actual);

/// A time that is not before any change made so far.
std::int64_t now_unix_ns();
/// Waits until the clock that stamps files in `directory` is past this time.
void wait_until_files_are_newer(const fs::path& directory, std::int64_t unix_ns);

}  // namespace ppdsm::test
