// What has happened to a virtual computer, in order: from it the switchboard is made again when its
// deployer's daemon was killed. An append-only file, written before an event takes effect and not
// synced: it outlives the daemon; of a machine that loses power it may lack the end, which is
// noticed when a process makes a call that comes too late in its counting.
//
// A record: its size without this head (u32), XXH3-64 of it (u64), then the time (i64,
// microseconds), what (u8), which thread (u64), how many calls (u64), and the bytes of the call or
// text. A torn last record is cut off.
#pragma once

#include <filesystem>
#include <functional>

#include "dsm/base/files.h"
#include "runtime/core/switchboard.h"

namespace ppdsm {

class CallJournal {
public:
    /// Reads what there is; `replay` gets each event with its time.
    using Replay = std::function<void(std::int64_t at_us, const switchboard::Event& event)>;
    static Result<CallJournal> open(const std::filesystem::path& path, const Replay& replay);

    /// `call`: of a Called event, its bytes.
    Status append(std::int64_t at_us, const switchboard::Event& event, ByteView call = {});
    /// Of the last event; 0: none.
    [[nodiscard]] std::int64_t last_us() const { return last_us_; }

private:
    explicit CallJournal(OwnedFd file) : file_(std::move(file)) {}
    OwnedFd file_;
    std::int64_t last_us_ = 0;
};

}  // namespace ppdsm
