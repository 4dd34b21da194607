// What spawned virtual threads have written and released, on its way to the user's stdout and
// stderr: whole lines, so that those of several are not torn. Each one's own log has all of it,
// once.
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "runtime/peer/journals.h"
#include "runtime/peer/run.h"

namespace ppdsm {

class ThreadOutput {
public:
    /// `vcs`: the directory of this home's virtual computers.
    explicit ThreadOutput(std::filesystem::path vcs) : vcs_(std::move(vcs)) {}

    void note(const ThreadRelease& release);
    /// Something is to be delivered.
    [[nodiscard]] bool has_more();

    using Write = std::function<Status(Stream stream, ByteView data)>;
    /// A piece of each; on a pool thread, one call at a time. The error of a log that cannot be
    /// read, or of `write`; that thread's output is then given up.
    Status deliver(const Write& write);

private:
    struct Thread {
        ThreadRelease noted;
        std::uint64_t delivered_bytes = 0;
        bool is_closed = false;  ///< Its last line is out, though it had no end.
        std::array<std::string, 2> partial;
        [[nodiscard]] bool has_more() const {
            return delivered_bytes < noted.output_bytes || (noted.has_ended && !is_closed);
        }
    };
    Status deliver_from(Thread& thread, const Write& write) const;

    std::filesystem::path vcs_;
    std::mutex mutex_;
    std::map<std::string, Thread> threads_;
};

}  // namespace ppdsm
