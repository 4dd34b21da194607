// A virtual computer at its deployer: the switchboard of its virtual threads, with a clock, calls
// and answers as bytes, and a journal from which it is the same again after the daemon was killed.
// On the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "dsm/io/loop.h"
#include "runtime/core/switchboard.h"
#include "runtime/peer/vthreads/call_journal.h"

namespace ppdsm {

class VirtualComputer {
public:
    struct Callbacks {
        /// At once.
        std::function<void(ThreadId, std::uint64_t number, Bytes answer)> on_answer;
        // Later, and not from within a call of ours.
        std::function<void(ThreadId, const std::string& name)> on_start;
        std::function<void(ThreadId)> on_stop;
        std::function<void(const std::string& why)> on_failed;
    };
    /// `journal`: what it was in an earlier life of this daemon; absent at first.
    static Result<std::unique_ptr<VirtualComputer>> open(Loop& loop,
                                                         const std::filesystem::path& journal,
                                                         Callbacks callbacks);
    ~VirtualComputer();
    VirtualComputer(const VirtualComputer&) = delete;
    VirtualComputer& operator=(const VirtualComputer&) = delete;

    /// kCorrupt: no call, of which nothing comes.
    Status on_call(ThreadId thread, ByteView call);
    /// What happens to its threads and peers (see switchboard.h).
    void note(const switchboard::Event& event) { step(event, {}); }
    /// Names of peers that work for it, all of them.
    void set_workers(const std::set<std::string>& peers);
    [[nodiscard]] const Switchboard& switchboard() const { return switchboard_; }

private:
    VirtualComputer(Loop& loop, Callbacks callbacks);
    void step(const switchboard::Event& event, ByteView call);
    void replay(std::int64_t at_us, const switchboard::Event& event);
    [[nodiscard]] std::int64_t now_us() const;
    void perform(const switchboard::Effect& effect);
    void later(std::function<void()> task);

    Loop& loop_;
    Callbacks callbacks_;
    Switchboard switchboard_;
    std::optional<CallJournal> journal_;
    /// Its clock goes on where it stopped, whatever the machine's says.
    std::int64_t clock_offset_us_ = 0;
    Timer timer_;
    std::set<std::string> workers_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ppdsm
