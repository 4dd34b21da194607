// A virtual computer on this machine alone, without sandboxes: real processes of a program with the
// preloaded library, their link pages, and a switchboard that they all speak to.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "runtime/core/switchboard.h"
#include "runtime/peer/vthreads/call_link.h"

namespace ppdsm {

class LinkedComputer {
public:
    /// `directory` is for link pages and outputs.
    LinkedComputer(std::filesystem::path directory, std::vector<std::string> command);
    ~LinkedComputer();
    LinkedComputer(const LinkedComputer&) = delete;
    LinkedComputer& operator=(const LinkedComputer&) = delete;

    /// Now and then a process is stopped, its link replaced as by another host, and continued.
    void replace_links(std::uint32_t seed) { random_.emplace(seed); }

    struct Outcome {
        int status = 0;  ///< Of wait(2).
        std::string out;
        std::string err;      ///< Of all processes.
        std::string failure;  ///< The switchboard's.
        int processes = 0;
        int replaced = 0;
    };
    Outcome run();

private:
    struct Process {
        pid_t pid = -1;
        std::unique_ptr<CallLink> link;
        std::thread waiter;
    };
    struct CallCame {
        ThreadId thread{};
        Bytes bytes;
    };
    struct LinkBroke {
        ThreadId thread{};
        std::string why;
    };
    struct ProcessEnded {
        ThreadId thread{};
        int status = 0;
    };
    using News = std::variant<std::monostate, CallCame, LinkBroke, ProcessEnded>;

    void start(ThreadId thread);
    void attach(ThreadId thread);
    void replace_link();
    void tell(News news);
    News next_news();
    void take(const News& news);
    void step(const switchboard::Event& event);
    [[nodiscard]] std::filesystem::path page_of(ThreadId thread) const;

    std::filesystem::path directory_;
    std::vector<std::string> command_;
    Switchboard board_;
    std::map<ThreadId, Process> processes_;
    std::optional<std::minstd_rand> random_;
    Outcome outcome_;
    bool over_ = false;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<News> news_;
};

}  // namespace ppdsm
