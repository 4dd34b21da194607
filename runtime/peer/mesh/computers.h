// The virtual computers that this peer deploys: for each program that uses ppdsm's header, who its
// virtual threads are, and the switchboard that they speak through. Each virtual thread is a
// deployment like any other, with a VC id of its own; the program itself is the first.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "runtime/peer/mesh/thread_watcher.h"
#include "runtime/peer/vthreads/virtual_computer.h"

namespace spdlog {
class logger;  // NOLINT(readability-identifier-naming): the library's.
}

namespace ppdsm {

class Deployment;

class Computers final : public ThreadWatcher {
public:
    struct Services {
        Loop& loop;
        std::shared_ptr<spdlog::logger> log;
        /// Deploys a virtual thread; gives its VC's id.
        std::function<Result<std::string>(const VcRecord& record)> deploy;
        /// Null: there is none, or no more.
        std::function<Deployment*(const std::string& vc)> find;
        /// Names of the peers that live.
        std::function<std::set<std::string>()> workers;
    };
    explicit Computers(Services services) : services_(std::move(services)) {}

    /// Of a program that begins, or goes on after an earlier life of this daemon.
    void adopt(Deployment& deployment);
    /// When all that go on have been adopted: `known` are the virtual threads that were deployed in
    /// earlier lives; `ended` how one came to its end, if it did.
    struct Known {
        VcRecord record;
        std::optional<Outcome> ended;
    };
    void resume(const std::vector<Known>& known);
    void on_members_changed();

    void on_call(const VcRecord& thread, ByteView call) override;
    void on_placed(const VcRecord& thread, const std::string& peer) override;
    void on_covered(const VcRecord& thread, std::uint64_t calls) override;
    void on_rolled_back(const VcRecord& thread, std::uint64_t calls) override;
    void on_ended(const VcRecord& thread, const Outcome& outcome) override;

private:
    /// Passes what a spawned virtual thread releases on to those who watch the program.
    struct OutputWatcher final : RunObserver {
        OutputWatcher(Computers& its_owner, std::string its_program, std::string its_vc)
            : owner(its_owner), program(std::move(its_program)) {
            release.vc = std::move(its_vc);
        }
        void on_released(std::uint64_t output_bytes) override {
            release.output_bytes = output_bytes;
            owner.tell(program, release);
        }
        Computers& owner;
        std::string program;
        ThreadRelease release;
    };
    struct Computer {
        VcRecord program;
        std::unique_ptr<VirtualComputer> switchboard;
        std::map<ThreadId, std::string> vcs;
        std::map<ThreadId, std::string> peers;
        std::map<ThreadId, std::unique_ptr<OutputWatcher>> outputs;
    };
    [[nodiscard]] Computer* computer_of(const VcRecord& thread);
    [[nodiscard]] Deployment* find(const std::string& computer, ThreadId thread);
    void note(const VcRecord& thread, const switchboard::Event& event);
    void watch(Computer& computer, ThreadId thread, const std::string& vc);
    void start(const std::string& computer, ThreadId thread, const std::string& name);
    void fail(const std::string& computer, const std::string& why);
    void tell(const std::string& program, const ThreadRelease& release);

    Services services_;
    std::map<std::string, Computer> computers_;  ///< By the program's own VC.
};

}  // namespace ppdsm
