#include "dsm/io/loop.h"

#include <utility>

#include "dsm/base/check.h"

namespace ppdsm {

Loop::Loop() { PPDSM_CHECK(uv_loop_init(&loop_) == 0); }

Loop::~Loop() {
    // Owners are gone by now; their handles' closes are carried out here.
    uv_run(&loop_, UV_RUN_NOWAIT);
    uv_loop_close(&loop_);
}

void Loop::run() { uv_run(&loop_, UV_RUN_DEFAULT); }
void Loop::stop() { uv_stop(&loop_); }

std::uint64_t Loop::now_ms() {
    uv_update_time(&loop_);
    return uv_now(&loop_);
}

void Loop::offload(std::function<void()> work, std::function<void()> done) {
    struct Job {
        uv_work_t request{};
        std::function<void()> work;
        std::function<void()> done;
    };
    auto* job = new Job{{}, std::move(work), std::move(done)};
    job->request.data = job;
    const int queued = uv_queue_work(
        &loop_, &job->request, [](uv_work_t* request) { static_cast<Job*>(request->data)->work(); },
        [](uv_work_t* request, int) {
            const std::unique_ptr<Job> finished(static_cast<Job*>(request->data));
            finished->done();
        });
    PPDSM_CHECK(queued == 0);
}

void Loop::post(std::function<void()> task) {
    struct Once {
        uv_timer_t timer{};
        std::function<void()> task;
    };
    auto* once = new Once{{}, std::move(task)};
    uv_timer_init(&loop_, &once->timer);
    once->timer.data = once;
    uv_timer_start(
        &once->timer,
        [](uv_timer_t* timer) {
            auto* due = static_cast<Once*>(timer->data);
            due->task();
            uv_close(reinterpret_cast<uv_handle_t*>(timer),
                     [](uv_handle_t* closed) { delete static_cast<Once*>(closed->data); });
        },
        0, 0);
}

Doorbell::Doorbell(Loop& loop, std::function<void()> callback) : callback_(std::move(callback)) {
    uv_async_init(loop.get(), handle_.get(), [](uv_async_t* async) {
        const auto* bell = static_cast<Doorbell*>(async->data);
        if (bell != nullptr) bell->callback_();
    });
    handle_.get()->data = this;
}

void Doorbell::ring() { uv_async_send(handle_.get()); }

Timer::Timer(Loop& loop, std::function<void()> callback) : callback_(std::move(callback)) {
    uv_timer_init(loop.get(), handle_.get());
    handle_.get()->data = this;
}

void Timer::start(std::uint64_t delay_ms, std::uint64_t repeat_ms) {
    uv_timer_start(
        handle_.get(), [](uv_timer_t* timer) { static_cast<Timer*>(timer->data)->callback_(); },
        delay_ms, repeat_ms);
}

bool Timer::is_active() { return uv_is_active(reinterpret_cast<uv_handle_t*>(handle_.get())) != 0; }
void Timer::stop() { uv_timer_stop(handle_.get()); }

Poller::Poller(Loop& loop, int fd, std::function<void(int)> callback)
    : callback_(std::move(callback)) {
    PPDSM_CHECK(uv_poll_init(loop.get(), handle_.get(), fd) == 0);
    handle_.get()->data = this;
}

void Poller::watch(int events) {
    if (events == 0) {
        uv_poll_stop(handle_.get());
        return;
    }
    uv_poll_start(handle_.get(), events, [](uv_poll_t* poll, int status, int ready) {
        static_cast<Poller*>(poll->data)->callback_(status < 0 ? UV_DISCONNECT : ready);
    });
}

SignalWatcher::SignalWatcher(Loop& loop, int signal, std::function<void(int)> callback)
    : callback_(std::move(callback)) {
    uv_signal_init(loop.get(), handle_.get());
    handle_.get()->data = this;
    uv_signal_start(
        handle_.get(),
        [](uv_signal_t* handle, int number) {
            static_cast<SignalWatcher*>(handle->data)->callback_(number);
        },
        signal);
}

}  // namespace ppdsm
