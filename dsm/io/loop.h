// libuv behind owning objects: a loop, timers, descriptors, signals, and work off the loop's
// thread. Callbacks run on the loop's thread. An object that is destroyed calls back no more.
#pragma once

#include <uv.h>

#include <functional>
#include <memory>

#include "dsm/base/owned_fd.h"

namespace ppdsm {

class Loop {
public:
    Loop();
    ~Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    void run();  ///< Until stop().
    void stop();
    /// Milliseconds of the loop's monotonic clock.
    [[nodiscard]] std::uint64_t now_ms();
    [[nodiscard]] uv_loop_t* get() { return &loop_; }

    /// Runs `work` on a thread of the pool, then `done` on the loop's thread. At most one thread
    /// works for one chain of calls: the caller starts the next from `done`.
    void offload(std::function<void()> work, std::function<void()> done);
    /// Runs `task` on the loop's thread, after the callbacks that are under way.
    void post(std::function<void()> task);

private:
    uv_loop_t loop_{};
};

/// Owns a uv handle whose memory must outlive the asynchronous close.
template <typename Handle>
class UvHandle {
public:
    UvHandle() : handle_(new Handle{}) {}
    UvHandle(const UvHandle&) = delete;
    UvHandle& operator=(const UvHandle&) = delete;
    ~UvHandle() {
        if (handle_->type == UV_UNKNOWN_HANDLE) {
            delete handle_;
            return;
        }
        handle_->data = nullptr;
        uv_close(reinterpret_cast<uv_handle_t*>(handle_),
                 [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
    }
    [[nodiscard]] Handle* get() { return handle_; }

private:
    Handle* handle_;
};

class Timer {
public:
    Timer(Loop& loop, std::function<void()> callback);
    /// Once after `delay_ms`, then every `repeat_ms` when that is not 0. Restarts a running timer.
    void start(std::uint64_t delay_ms, std::uint64_t repeat_ms = 0);
    void stop();
    [[nodiscard]] bool is_active();

private:
    std::function<void()> callback_;
    UvHandle<uv_timer_t> handle_;
};

/// How another thread wakes the loop's: rings that come together may be heard as one.
class Doorbell {
public:
    Doorbell(Loop& loop, std::function<void()> callback);
    void ring();  ///< Any thread.

private:
    std::function<void()> callback_;
    UvHandle<uv_async_t> handle_;
};

/// Readiness of a pollable descriptor, which stays the caller's and must outlive this object.
class Poller {
public:
    Poller(Loop& loop, int fd, std::function<void(int events)> callback);
    void watch(int events);  ///< UV_READABLE, UV_WRITABLE, UV_DISCONNECT; 0: nothing.

private:
    std::function<void(int)> callback_;
    UvHandle<uv_poll_t> handle_;
};

class SignalWatcher {
public:
    SignalWatcher(Loop& loop, int signal, std::function<void(int signal)> callback);

private:
    std::function<void(int)> callback_;
    UvHandle<uv_signal_t> handle_;
};

}  // namespace ppdsm
