#include "cli/thread_output.h"

#include "runtime/peer/home.h"

namespace ppdsm {

namespace {

/// A line that is longer is torn.
constexpr std::size_t kLongestLine = std::size_t{64} << 10;

}  // namespace

void ThreadOutput::note(const ThreadRelease& release) {
    const std::lock_guard lock(mutex_);
    threads_[release.vc].noted = release;
}

bool ThreadOutput::has_more() {
    const std::lock_guard lock(mutex_);
    for (const auto& [vc, thread] : threads_) {
        if (thread.has_more()) return true;
    }
    return false;
}

Status ThreadOutput::deliver(const Write& write) {
    std::map<std::string, Thread> due;
    {
        const std::lock_guard lock(mutex_);
        for (auto& [vc, thread] : threads_) {
            if (thread.has_more()) due[vc] = thread;
        }
    }
    Status all;
    for (auto& [vc, thread] : due) {
        const Status delivered = deliver_from(thread, write);
        if (!delivered) {
            thread.delivered_bytes = thread.noted.output_bytes;
            thread.is_closed = thread.noted.has_ended;
            all = delivered;
        }
        // What was noted meanwhile stays.
        const std::lock_guard lock(mutex_);
        Thread& kept = threads_[vc];
        kept.delivered_bytes = thread.delivered_bytes;
        kept.is_closed = thread.is_closed;
        kept.partial = std::move(thread.partial);
    }
    return all;
}

Status ThreadOutput::deliver_from(Thread& thread, const Write& write) const {
    const VcPaths paths{vcs_ / thread.noted.vc};
    if (thread.delivered_bytes < thread.noted.output_bytes) {
        PPDSM_ASSIGN(const OutputLog log, OutputLog::open(paths.output(), false));
        PPDSM_ASSIGN(const OutputLog::Piece piece,
                     log.read(thread.delivered_bytes, thread.noted.output_bytes));
        std::string& text = thread.partial.at(piece.stream == Stream::kStderr ? 1 : 0);
        text += as_text(piece.data);
        std::size_t whole = text.rfind('\n') + 1;
        if (whole == 0 && text.size() > kLongestLine) whole = text.size();
        PPDSM_TRY(write(piece.stream, as_bytes(std::string_view(text).substr(0, whole))));
        text.erase(0, whole);
        thread.delivered_bytes = piece.next_bytes;
        return {};
    }
    thread.is_closed = true;
    PPDSM_TRY(write(Stream::kStdout, as_bytes(thread.partial[0])));
    return write(Stream::kStderr, as_bytes(thread.partial[1]));
}

}  // namespace ppdsm
