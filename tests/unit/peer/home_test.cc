// Goal: one executor a VC, and whoever looks or waits is never in its way. Method: a thread that
// looks and waits without a pause beside one that locks and unlocks.
#include "runtime/peer/home.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>

namespace ppdsm {
namespace {

class HomeLock : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = std::filesystem::temp_directory_path() / "ppdsm-home-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        paths_.directory = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(paths_.directory); }

    VcPaths paths_;
};

TEST_F(HomeLock, IsOneExecutors) {
    EXPECT_FALSE(is_locked(paths_));
    {
        const Result<OwnedFd> held = lock_vc(paths_);
        ASSERT_TRUE(held);
        EXPECT_TRUE(is_locked(paths_));
        EXPECT_EQ(lock_vc(paths_).error().code(), Code::kUnavailable);
    }
    EXPECT_FALSE(is_locked(paths_));
    EXPECT_TRUE(lock_vc(paths_));
}

TEST_F(HomeLock, IsNotRefusedBecauseSomebodyLooks) {
    std::atomic<bool> done = false;
    std::thread looks([&] {
        while (!done) {
            (void)is_locked(paths_);
            EXPECT_TRUE(wait_until_unlocked(paths_));
        }
    });
    int refused = 0;
    for (int i = 0; i < 20'000; ++i) refused += lock_vc(paths_) ? 0 : 1;
    done = true;
    looks.join();
    EXPECT_EQ(refused, 0);
}

TEST_F(HomeLock, WaitersReturnWhenTheExecutorHasEnded) {
    Result<OwnedFd> held = lock_vc(paths_);
    ASSERT_TRUE(held);
    std::atomic<bool> returned = false;
    std::thread waits([&] {
        EXPECT_TRUE(wait_until_unlocked(paths_));
        returned = true;
    });
    EXPECT_FALSE(returned);
    held->reset();
    waits.join();
    EXPECT_TRUE(returned);
}

}  // namespace
}  // namespace ppdsm
