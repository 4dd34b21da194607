// Ground of the tests of program files: a directory of one's own with a tree at home, and calls of
// the loop's objects that are awaited.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "criu-glue/sandbox/directory_listing.h"
#include "dsm/io/loop.h"
#include "runtime/peer/program_files/file_broker.h"
#include "runtime/peer/program_files/file_fetcher.h"
#include "runtime/peer/program_files/file_owner.h"

namespace ppdsm {

namespace fs = std::filesystem;

/// Starts something that gives its result to a callback on the loop's thread, and runs the loop
/// until it has come. No step of a test may take a minute.
template <typename T, typename Start>
T await(Loop& loop, Start start) {
    std::optional<T> value;
    bool is_late = false;
    Timer deadline(loop, [&] {
        is_late = true;
        loop.stop();
    });
    deadline.start(60'000);
    start([&](T result) {
        value.emplace(std::move(result));
        loop.stop();
    });
    while (!value && !is_late) loop.run();
    if (!value) throw std::runtime_error("no answer within a minute");
    return *std::move(value);
}

/// Runs the loop until `predicate` holds.
inline void await_that(Loop& loop, const std::function<bool()>& predicate) {
    std::unique_ptr<Timer> look;
    await<bool>(loop, [&](auto done) {
        look = std::make_unique<Timer>(loop, [&predicate, done] {
            if (predicate()) done(true);
        });
        look->start(0, 2);
    });
}

inline Result<ListAnswer> list(Loop& loop, FileSource& source, const std::string& path,
                               std::optional<FileId> known = {}) {
    auto answers = await<std::vector<Result<ListAnswer>>>(
        loop, [&](auto done) { source.list({{path, known}}, done); });
    return std::move(answers.at(0));
}
inline Result<ContentAnswer> content(Loop& loop, FileSource& source, const std::string& path,
                                     const FileVersion& version) {
    return await<Result<ContentAnswer>>(loop,
                                        [&](auto done) { source.content(path, version, done); });
}
inline Result<Bytes> piece(Loop& loop, FileSource& source, FileId file, std::uint32_t index) {
    return await<Result<Bytes>>(loop, [&](auto done) { source.piece(file, index, done); });
}
inline Result<FileLayout> layout(Loop& loop, FileSource& source, FileId file) {
    return await<Result<FileLayout>>(loop, [&](auto done) { source.layout(file, done); });
}

inline std::string text_of(const OwnedFd& file) {
    struct stat info{};
    ::fstat(file.get(), &info);
    Bytes bytes(static_cast<std::size_t>(info.st_size));
    return read_exactly_at(file, bytes, 0) ? std::string(as_text(bytes)) : "unreadable";
}

/// As the listing of its directory shows it now.
inline FileVersion version_now(const fs::path& path) {
    struct stat info{};
    ::lstat(path.c_str(), &info);
    const FileAttributes attributes = FileAttributes::of(info);
    return {attributes.size_bytes, attributes.mtime_ns, attributes.ctime_ns};
}

/// Bytes that no two offsets share.
inline std::string noise(std::size_t size_bytes, std::uint64_t seed = 1) {
    std::string text(size_bytes, '\0');
    std::uint64_t state = seed * 0x9E3779B97F4A7C15U;
    for (char& c : text) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        c = static_cast<char>(state >> 32);
    }
    return text;
}

class ProgramFilesTest : public testing::Test {
protected:
    void SetUp() override {
        // Not in /tmp, which programs have one of their own of.
        std::string pattern = "/var/tmp/ppdsm-test-files-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        fs::create_directories(tree());
    }
    void TearDown() override {
        loop_.run();  // Until the pool's jobs are over.
        fs::remove_all(directory_);
    }

    [[nodiscard]] const fs::path& directory() const { return directory_; }
    /// What home shows, at the same path inside.
    [[nodiscard]] fs::path tree() const { return directory_ / "tree"; }
    [[nodiscard]] std::string path(const std::string& below) const { return tree() / below; }
    void write(const std::string& below, const std::string& text) const {
        fs::create_directories((tree() / below).parent_path());
        std::ofstream(tree() / below, std::ios::binary) << text;
    }

    [[nodiscard]] ViewPlan plan(bool is_system = false) const {
        ViewPlan plan;
        plan.roots.push_back({PlannedRoot::Kind::kReadOnly, tree(), tree(), is_system, true});
        return plan;
    }
    std::shared_ptr<ContentHashes> hashes() const {
        auto opened = ContentHashes::open(directory_ / "hashes");
        EXPECT_TRUE(opened) << opened.error().message();
        return *opened;
    }
    std::unique_ptr<FileOwner> owner() {
        auto opened = FileOwner::open(loop_, plan(), hashes());
        EXPECT_TRUE(opened) << opened.error().message();
        return *std::move(opened);
    }
    std::unique_ptr<FileCache> cache(const std::string& name = "cache",
                                     std::uint64_t limit_bytes = std::uint64_t{1} << 30) {
        auto opened = FileCache::open(loop_, {directory_ / name, limit_bytes});
        EXPECT_TRUE(opened) << opened.error().message();
        return *std::move(opened);
    }

    Loop loop_;
    fs::path directory_;
};

/// A source in front of another that counts, fails and forges as told.
class WatchedSource : public FileSource {
public:
    explicit WatchedSource(FileSource& behind) : behind_(&behind) {}

    void list(std::vector<ListQuery> queries,
              std::function<void(std::vector<Result<ListAnswer>>)> done) override {
        ++lists;
        behind_->list(std::move(queries), std::move(done));
    }
    void content(std::string path, FileVersion version,
                 std::function<void(Result<ContentAnswer>)> done) override {
        ++contents;
        behind_->content(std::move(path), version, std::move(done));
    }
    void layout(FileId file, std::function<void(Result<FileLayout>)> done) override {
        ++layouts;
        behind_->layout(file, std::move(done));
    }
    void piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done) override {
        ++pieces;
        if (forged_pieces > 0) {
            --forged_pieces;
            return behind_->piece(file, index, [done](Result<Bytes> bytes) {
                if (bytes && !bytes->empty()) bytes->front() ^= 1;
                done(std::move(bytes));
            });
        }
        behind_->piece(file, index, std::move(done));
    }
    void turn_to(FileSource& other) { behind_ = &other; }
    void forget_counts() { lists = contents = layouts = pieces = 0; }

    int lists = 0;
    int contents = 0;
    int layouts = 0;
    int pieces = 0;
    int forged_pieces = 0;

private:
    FileSource* behind_;
};

/// A source in front of another that lets a test step in: before an answer about a path is passed
/// on, or instead of it.
class HookedSource : public FileSource {
public:
    explicit HookedSource(FileSource& behind) : behind_(behind) {}

    std::function<void(const std::string& path)> on_listed = [](const auto&) {};
    std::function<void(const std::string& path)> on_content = [](const auto&) {};
    std::string held_path;  ///< Its content is not asked for until release().

    void release() {
        held_path.clear();
        for (const auto& ask : std::exchange(held_, {})) ask();
    }
    [[nodiscard]] bool holds_any() const { return !held_.empty(); }

    void list(std::vector<ListQuery> queries,
              std::function<void(std::vector<Result<ListAnswer>>)> done) override {
        behind_.list(queries, [this, queries, done = std::move(done)](auto answers) {
            for (const ListQuery& query : queries) on_listed(query.path);
            done(std::move(answers));
        });
    }
    void content(std::string path, FileVersion version,
                 std::function<void(Result<ContentAnswer>)> done) override {
        auto ask = [this, path, version, done = std::move(done)] {
            behind_.content(path, version, [this, path, done](Result<ContentAnswer> answer) {
                on_content(path);
                done(std::move(answer));
            });
        };
        if (path == held_path) {
            held_.emplace_back(std::move(ask));
        } else {
            ask();
        }
    }
    void layout(FileId file, std::function<void(Result<FileLayout>)> done) override {
        behind_.layout(file, std::move(done));
    }
    void piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done) override {
        behind_.piece(file, index, std::move(done));
    }

private:
    FileSource& behind_;
    std::vector<std::function<void()>> held_;
};

/// A peer that has a cache and no owner in reach.
class HolderSource : public FileSource {
public:
    HolderSource(Loop& loop, FileCache& cache) : loop_(loop), cache_(cache) {}
    void list(std::vector<ListQuery> queries,
              std::function<void(std::vector<Result<ListAnswer>>)> done) override {
        loop_.post([count = queries.size(), done = std::move(done)] {
            done(std::vector<Result<ListAnswer>>(count,
                                                 fail(Code::kUnavailable, "the owner is gone")));
        });
    }
    void content(std::string /*path*/, FileVersion /*version*/,
                 std::function<void(Result<ContentAnswer>)> done) override {
        loop_.post(
            [done = std::move(done)] { done(fail(Code::kUnavailable, "the owner is gone")); });
    }
    void layout(FileId file, std::function<void(Result<FileLayout>)> done) override {
        cache_.layout(file, std::move(done));
    }
    void piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done) override {
        cache_.piece(file, index, std::move(done));
    }

private:
    Loop& loop_;
    FileCache& cache_;
};

}  // namespace ppdsm
