// The host's side of a link page (runtime/lib/link/call_page.h): takes the calls of one virtual
// thread's process as bytes, and gives it the answers. The process may do to the page what it
// likes; a page that makes no sense breaks the link, and nothing else.
#pragma once

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "dsm/base/files.h"
#include "runtime/core/thread_call.h"

namespace ppdsm {

/// Makes the file of a new virtual thread, whose process may then be started.
Status create_call_page(const std::filesystem::path& path, ThreadId thread);

class CallLink {
public:
    /// On a thread of the link's own. At most one call is under way; the same call may come again
    /// when the process was restored.
    struct Callbacks {
        std::function<void(Bytes call)> on_call;
        std::function<void(const Error& why)> on_broken;  ///< The last.
    };
    /// Attaches, which begins an epoch: the process must not run meanwhile. Its process's last
    /// call, if it was not answered, comes again by itself.
    static Result<std::unique_ptr<CallLink>> attach(const std::filesystem::path& path,
                                                    Callbacks callbacks);
    /// No callback runs any more when it returns.
    ~CallLink();
    CallLink(const CallLink&) = delete;
    CallLink& operator=(const CallLink&) = delete;

    /// To the call of that number, if that is under way: one that was restored may have had its
    /// answer twice. Any thread.
    void answer(std::uint64_t number, Bytes bytes);
    /// So many calls of the process's have been answered, or one more. Any thread.
    [[nodiscard]] std::uint64_t answered_calls();

private:
    struct Mapping;
    CallLink(std::unique_ptr<Mapping> mapping, Callbacks callbacks);
    void serve();
    Result<std::optional<Bytes>> read_call();
    void begin(ByteView call);
    bool write_answer();
    [[nodiscard]] bool is_stopping() const { return stopping_.load(std::memory_order_relaxed); }

    std::unique_ptr<Mapping> mapping_;
    std::uint32_t epoch_ = 0;
    Callbacks callbacks_;
    std::atomic<bool> stopping_{false};
    std::mutex mutex_;
    std::condition_variable answered_;
    std::uint64_t under_way_ = 0;    ///< The number of the call; 0: none.
    std::uint64_t last_number_ = 0;  ///< Of the last call that came.
    std::optional<Bytes> answer_;
    std::thread thread_;
};

}  // namespace ppdsm
