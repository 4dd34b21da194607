// Goal: kill -9 at any instant leaves every committed generation whole. Method: a child stores,
// flushes, commits a record and collects garbage; it is killed before each of its system calls in
// turn, and at moments of the clock while threads are at work. Then the store is opened and read.
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/unit/store/store_fixture.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;
using testing_store::kPage;
using testing_store::noise;
using testing_store::prose;

/// What a manifest would be: the generation and the blobs of it and of the one before.
struct Record {
    std::uint64_t generation = 0;
    BlobRef last;
    BlobRef before;
};
static_assert(std::is_trivially_copyable_v<Record>);

class KillTest : public testing_store::StoreFixture {
protected:
    /// A tenth of the pages changes from one generation to the next.
    static Bytes content_of(std::uint64_t generation, std::size_t pages) {
        Bytes content;
        for (std::size_t page = 0; page < pages; ++page) {
            const std::uint64_t seed = page * 100000 + (generation + page) / 10;
            const Bytes piece = page % 2 == 0 ? noise(kPage, seed) : prose(kPage, seed);
            content.insert(content.end(), piece.begin(), piece.end());
        }
        return content;
    }

    [[nodiscard]] Record record() const {
        Record record;
        const Result<Bytes> bytes = read_file(home_ / "record");
        if (bytes) {
            EXPECT_EQ(bytes->size(), sizeof record);
            std::memcpy(&record, bytes->data(), sizeof record);
        }
        return record;
    }

    /// One generation as the executor does it: store, flush, commit, collect.
    [[nodiscard]] Status advance(ChunkStore& store, std::size_t pages) const {
        const Record old = record();
        Record next;
        next.generation = old.generation + 1;
        next.before = old.last;
        PPDSM_ASSIGN(next.last, store_bytes(store, content_of(next.generation, pages)));
        PPDSM_TRY(store.flush());
        PPDSM_TRY(replace_file(home_ / "record",
                               {reinterpret_cast<const std::uint8_t*>(&next), sizeof next}));
        ChunkSet live;
        PPDSM_TRY(mark_blob(store, next.last, live));
        PPDSM_TRY(mark_blob(store, next.before, live));
        return store.collect_garbage(live);
    }

    void expect_whole(std::size_t pages) const {
        const Record committed = record();
        const auto store = open();
        ASSERT_NE(store, nullptr);
        EXPECT_TRUE(store->damaged_packs().empty());
        EXPECT_TRUE(store->verify({}).value().empty());
        const auto read = [&](const BlobRef& blob, std::uint64_t generation) {
            if (generation == 0) return;
            const Result<Bytes> content = load_blob(*store, blob, pages * kPage);
            ASSERT_TRUE(content) << content.error().message();
            EXPECT_TRUE(*content == content_of(generation, pages));
        };
        read(committed.last, committed.generation);
        if (committed.generation > 0) read(committed.before, committed.generation - 1);
        for (const auto& entry : fs::directory_iterator(directory_)) {
            EXPECT_EQ(entry.path().extension(), ".ppk") << entry.path();
        }
    }
};

TEST_F(KillTest, BeforeEachSystemCall) {
    constexpr std::size_t kPages = 40;
    {
        const auto store = open();
        for (int i = 0; i < 3; ++i) ASSERT_TRUE(advance(*store, kPages));
    }
    const fs::path saved = fs::path(home_).concat("-saved");
    fs::copy(home_, saved, fs::copy_options::recursive);
    bool finished = false;
    int calls = 0;
    for (; !finished && calls < 2000; ++calls) {
        fs::remove_all(home_);
        fs::copy(saved, home_, fs::copy_options::recursive);
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
            ::raise(SIGSTOP);
            Result<std::unique_ptr<ChunkStore>> store =
                ChunkStore::open(directory_, ChunkStore::Mode::kWrite);
            ::_exit(store && advance(**store, kPages) ? 0 : 1);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        if (WIFEXITED(status)) {
            fs::remove_all(saved);
            GTEST_SKIP() << "SKIPPED: ptrace is not allowed here";
        }
        // Each call stops twice, when it begins and when it ends.
        for (int stop = 0; stop <= 2 * calls && WIFSTOPPED(status); ++stop) {
            ASSERT_EQ(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr), 0);
            ASSERT_EQ(::waitpid(child, &status, 0), child);
        }
        finished = !WIFSTOPPED(status);
        if (finished) {
            EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            EXPECT_EQ(record().generation, 4U);
        } else {
            ::kill(child, SIGKILL);
            ASSERT_EQ(::waitpid(child, &status, 0), child);
        }
        SCOPED_TRACE("killed before system call " + std::to_string(calls));
        expect_whole(kPages);
        if (HasFailure()) break;
    }
    fs::remove_all(saved);
    EXPECT_TRUE(finished);
    EXPECT_GT(calls, 20);
}

TEST_F(KillTest, WhileThreadsAreAtWork) {
    constexpr std::size_t kPages = 2304;  // 9 MiB: hashed and compressed by threads.
    constexpr std::uint64_t kSeed = 3;
    std::mt19937_64 random(kSeed);
    for (int round = 0; round < 12; ++round) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            Result<std::unique_ptr<ChunkStore>> store =
                ChunkStore::open(directory_, ChunkStore::Mode::kWrite);
            while (store && advance(**store, kPages)) {
            }
            ::_exit(1);
        }
        const timespec delay{0, static_cast<long>(random() % 250) * 1'000'000};
        ::nanosleep(&delay, nullptr);
        ::kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFSIGNALED(status)) << "the child failed by itself";
        SCOPED_TRACE("round " + std::to_string(round) + ", seed " + std::to_string(kSeed));
        if (fs::exists(directory_)) expect_whole(kPages);
        if (HasFailure()) break;
    }
}

}  // namespace
}  // namespace ppdsm
