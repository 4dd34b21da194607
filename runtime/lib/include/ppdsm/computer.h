// VirtualComputer: what virtual threads are spawned on.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <utility>

#include "ppdsm/self.h"

namespace ppdsm {

/// Which of its workers a new virtual thread goes to.
enum class Placement : std::uint32_t {
    kBySpeed,  ///< In proportion to the workers' measured speed.
    kSpread,   ///< As evenly as it goes.
    kPack,     ///< On as few workers as hold it.
};

struct VirtualComputerOptions {
    /// How many peers to enrol; 0: as many as there are. Plainly: how many virtual threads run at a
    /// time, per `threads_per_worker`, besides main; one that waits in a call of ppdsm's does not
    /// count. With the default, no bound.
    unsigned workers = 0;
    /// Waits for so many before it starts. Plainly: without meaning.
    unsigned min_workers = 0;
    /// How many virtual threads a worker runs at a time.
    unsigned threads_per_worker = 1;
    /// Plainly: without meaning.
    Placement placement = Placement::kBySpeed;
    /// Bound of each mailbox, in bytes; 0 is 64 MiB.
    std::size_t mailbox_bytes = 0;
};

namespace detail {

/// For mistakes that are found where nothing can be thrown.
[[noreturn]] inline void give_up(const char* why) {
    std::fprintf(stderr, "ppdsm: %s\n", why);
    std::abort();
}

}  // namespace detail

/// The calling thread becomes the first virtual thread (`main`) of a virtual computer, until the
/// object goes. A thread has one at a time, and a virtual thread none but that it belongs to
/// (Misuse). Its calls, and the callbacks, happen on that thread only, and it goes there too, not
/// within a callback: anything else ends the process with a line that says so.
class VirtualComputer {
public:
    /// Disconnected if the ppdsm that runs the program cannot serve it.
    explicit VirtualComputer(const VirtualComputerOptions& options = {})
        : unwinding_(std::uncaught_exceptions()) {
        const abi::Options raw{options.workers, options.min_workers, options.threads_per_worker,
                               static_cast<std::uint32_t>(options.placement),
                               options.mailbox_bytes};
        detail::check(detail::backend().open(&raw));
        try {
            scope_.emplace();
        } catch (...) {
            detail::backend().close(1);
            throw;
        }
        context_ = detail::current_context();
    }
    VirtualComputer(const VirtualComputer&) = delete;
    VirtualComputer& operator=(const VirtualComputer&) = delete;
    /// Waits until all its virtual threads have ended; they are cancelled first if it goes because
    /// of an exception. Delivers no callbacks.
    ~VirtualComputer() {
        if (detail::current_context() != context_) {
            detail::give_up("a VirtualComputer goes on another thread than the one that made it");
        }
        if (context_->is_delivering()) {
            detail::give_up("a VirtualComputer goes while one of its callbacks runs");
        }
        scope_.reset();
        detail::backend().close(std::uncaught_exceptions() > unwinding_ ? 1 : 0);
    }

    /// As Self::spawn.
    template <class... A>
    auto spawn(A&&... arguments) {
        return main().spawn(std::forward<A>(arguments)...);
    }
    template <class F, class... A>
    auto spawn(const ThreadOptions& options, F&& f, A&&... arguments) {
        return main().spawn(options, std::forward<F>(f), std::forward<A>(arguments)...);
    }
    /// `f(const WorkerEvent&)` is called when a peer joins the computer or is lost, and when a
    /// virtual thread moves; in order, each once, while this thread waits or polls. Set it first:
    /// what is delivered without is dropped.
    void on_worker(std::function<void(const WorkerEvent&)> f) {
        main();
        context_->set_on_worker(std::move(f));
    }
    void poll() { main().poll(); }
    /// Waits until all virtual threads that main has spawned have ended; throws nothing of what
    /// they threw.
    void wait_all() { main().wait_all(); }

private:
    Self& main() const {
        if (detail::current_context() != context_) {
            throw Misuse(
                "a VirtualComputer is used by the thread that made it; others have self()");
        }
        return self();
    }

    int unwinding_;
    std::optional<detail::ContextScope> scope_;
    detail::Context* context_ = nullptr;
};

namespace detail {

inline unsigned number_from_environment(const char* name, unsigned otherwise) {
    const char* text = std::getenv(name);
    if (text == nullptr) return otherwise;
    const char* const end = text + std::strlen(text);
    unsigned number = otherwise;
    const auto [stop, error] = std::from_chars(text, end, number);
    return error == std::errc() && stop == end ? number : otherwise;
}

}  // namespace detail

/// Which of `ppdsm exec -n N`'s programs this is, from 0; 0 when started otherwise.
inline unsigned rank() { return detail::number_from_environment("PPDSM_RANK", 0); }
/// How many there are; 1 when started otherwise.
inline unsigned size() { return detail::number_from_environment("PPDSM_SIZE", 1); }

}  // namespace ppdsm
