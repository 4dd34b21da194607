#include "criu-glue/store/worker_pool.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace ppdsm {

WorkerPool::WorkerPool() {
    const unsigned wanted = std::clamp(std::thread::hardware_concurrency(), 2U, 16U);
    threads_.reserve(wanted);
    try {
        for (unsigned i = 0; i < wanted; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
        // A task limit was reached: the threads there are, and the caller's own, do the work.
    }
}

WorkerPool::~WorkerPool() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        queue_.clear();
    }
    queued_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

std::shared_ptr<WorkerPool::Job> WorkerPool::submit(std::function<void()> run) {
    auto job = std::make_shared<Job>();
    job->run = std::move(run);
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(job);
    }
    queued_.notify_one();
    return job;
}

void WorkerPool::wait(const Job& job) {
    std::unique_lock lock(mutex_);
    while (!job.done) {
        if (queue_.empty()) {
            finished_.wait(lock);
        } else {
            run_front(lock);
        }
    }
}

void WorkerPool::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        queued_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (stopping_) return;
        run_front(lock);
    }
}

void WorkerPool::run_front(std::unique_lock<std::mutex>& lock) {
    const std::shared_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job->run();
    lock.lock();
    job->done = true;
    finished_.notify_all();
}

}  // namespace ppdsm
