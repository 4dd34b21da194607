// Goal: waits on words that processes share end when they should and say why. Method: the word of a
// mapping that a forked process has, too.
#include "dsm/base/futex.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>

namespace ppdsm {
namespace {

struct Words {
    std::atomic<std::uint32_t> first;
    std::atomic<std::uint32_t> second;
    std::atomic<std::uint32_t> is_ready;
};

class Futex : public testing::Test {
protected:
    Futex()
        : words_(static_cast<Words*>(::mmap(nullptr, sizeof(Words), PROT_READ | PROT_WRITE,
                                            MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
        if (words_ == MAP_FAILED) std::abort();
    }
    ~Futex() override { ::munmap(words_, sizeof(Words)); }

    /// In another process: sets the word, then wakes.
    void set_elsewhere(std::atomic<std::uint32_t>& word) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            while (words_->is_ready.load() == 0) ::sched_yield();
            word.store(1);
            futex_wake(word);
            ::_exit(0);
        }
        child_ = child;
    }
    void TearDown() override {
        if (child_ > 0) {
            EXPECT_EQ(::waitpid(child_, nullptr, 0), child_);
        }
    }

    Words* words_;
    pid_t child_ = 0;
};

TEST_F(Futex, DoesNotSleepWhenTheWordHasChanged) {
    words_->first.store(7);
    EXPECT_EQ(futex_wait(words_->first, 6, Deadline::never()), FutexWait::kChanged);
    const struct futex_waitv waiters[] = {futex_waiter(words_->first, 7),
                                          futex_waiter(words_->second, 1)};
    EXPECT_EQ(futex_wait_any(waiters, 2, Deadline::never()), FutexWait::kChanged);
}

TEST_F(Futex, EndsAtTheDeadline) {
    for (const std::int64_t duration_ns :
         {std::int64_t{-5}, std::int64_t{0}, std::int64_t{2'000'000}}) {
        const Deadline deadline = Deadline::after_ns(duration_ns);
        EXPECT_EQ(futex_wait(words_->first, 0, deadline), FutexWait::kTimedOut);
        const struct futex_waitv waiter = futex_waiter(words_->first, 0);
        EXPECT_EQ(futex_wait_any(&waiter, 1, deadline), FutexWait::kTimedOut);
    }
}

TEST_F(Futex, KeepsNanosecondsWithinASecond) {
    const timespec later = *Deadline::after_ns(1'999'999'999).at();
    const timespec now = *Deadline::after_ns(0).at();
    EXPECT_LT(later.tv_nsec, 1'000'000'000);
    EXPECT_GE(now.tv_sec - later.tv_sec + 2, 0);
    EXPECT_EQ(Deadline::never().at(), nullptr);
}

TEST_F(Futex, IsWokenFromAnotherProcess) {
    set_elsewhere(words_->first);
    words_->is_ready.store(1);
    while (words_->first.load() == 0) futex_wait(words_->first, 0, Deadline::never());
}

TEST_F(Futex, IsWokenByAnyOfSeveralWords) {
    set_elsewhere(words_->second);
    words_->is_ready.store(1);
    while (words_->second.load() == 0) {
        const struct futex_waitv waiters[] = {futex_waiter(words_->first, 0),
                                              futex_waiter(words_->second, 0)};
        futex_wait_any(waiters, 2, Deadline::never());
    }
    EXPECT_EQ(words_->first.load(), 0U);
}

}  // namespace
}  // namespace ppdsm
