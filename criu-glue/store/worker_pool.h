// Threads for hashing and compressing. A pool lives only as long as the work it was made for: the
// process around it forks and changes namespaces, which idle threads would get in the way of.
// Jobs never wait for one another, so that a caller that waits in order cannot deadlock.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace ppdsm {

class WorkerPool {
public:
    struct Job {
        std::function<void()> run;  ///< Must not throw.
        bool done = false;          ///< Guarded by the pool's mutex.
    };

    /// As many threads as the machine has processors, at least 2, at most 16. Where the system
    /// refuses threads the pool has fewer, and wait() does the work.
    WorkerPool();
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;
    /// Drops what has not begun, waits for what has.
    ~WorkerPool();

    [[nodiscard]] std::size_t threads() const { return threads_.size(); }
    /// The queue is bounded by its users: each keeps a window of jobs and waits for its oldest.
    std::shared_ptr<Job> submit(std::function<void()> run);
    /// Returns when the job is done. Runs queued jobs meanwhile. From one thread at a time.
    void wait(const Job& job);

private:
    void work();
    void run_front(std::unique_lock<std::mutex>& lock);

    std::mutex mutex_;
    std::condition_variable queued_;
    std::condition_variable finished_;
    std::deque<std::shared_ptr<Job>> queue_;
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace ppdsm
