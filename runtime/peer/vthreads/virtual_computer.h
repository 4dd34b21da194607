// A virtual computer at its deployer: the switchboard of its virtual threads, with a clock, and calls
// and answers as bytes. On the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "dsm/io/loop.h"
#include "runtime/core/switchboard.h"

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
    VirtualComputer(Loop& loop, Callbacks callbacks);
    ~VirtualComputer();
    VirtualComputer(const VirtualComputer&) = delete;
    VirtualComputer& operator=(const VirtualComputer&) = delete;

    /// kCorrupt: no call, of which nothing comes.
    Status on_call(ThreadId thread, ByteView call);
    /// What happens to its threads and peers (see switchboard.h).
    void note(const switchboard::Event& event) { step(event); }
    /// Names of peers that work for it, all of them.
    void set_workers(const std::set<std::string>& peers);
    [[nodiscard]] const Switchboard& switchboard() const { return switchboard_; }

private:
    void step(const switchboard::Event& event);
    void perform(const switchboard::Effect& effect);
    void later(std::function<void()> task);

    Loop& loop_;
    Callbacks callbacks_;
    Switchboard switchboard_;
    Timer timer_;
    std::set<std::string> workers_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ppdsm
