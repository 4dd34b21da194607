// A worker for the tests: an executor in a process of its own, to which the owner's files do not
// exist, with broker and cache on the test's loop, as the daemon has them.
#pragma once

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "criu-glue/sandbox/message_socket.h"
#include "runtime/peer/home.h"
#include "tests/unit/peer/program_files_fixture.h"

namespace ppdsm {

class Worker {
public:
    struct Run {
        VcPaths paths;
        std::string plan;                 ///< File, or "-": home is here.
        std::vector<std::string> hidden;  ///< Directories that this peer does not have.
        std::uint64_t kill_after = 0;
        std::uint32_t uid = 0;
    };

    /// `broker`: null for a program at home.
    Worker(Loop& loop, FileBroker* broker, const Run& run) : loop_(loop), broker_(broker) {
        start(run);
    }
    ~Worker() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    /// What the executor said of the run when it was over; null when it failed.
    nlohmann::json result() {
        await<bool>(loop_, [&](auto done) {
            over_ = std::make_unique<Poller>(loop_, output_.get(), [this, done](int) {
                std::array<char, 65536> part{};
                const ssize_t got = ::read(output_.get(), part.data(), part.size());
                if (got > 0) return void(said_.append(part.data(), static_cast<std::size_t>(got)));
                over_->watch(0);
                done(true);
            });
            over_->watch(UV_READABLE);
        });
        ::waitpid(std::exchange(pid_, 0), nullptr, 0);
        return nlohmann::json::parse(said_, nullptr, false);
    }
    [[nodiscard]] pid_t pid() const { return pid_; }
    /// A process of that name below the executor; 0: there is none.
    [[nodiscard]] pid_t find(const std::string& name) const {
        for (const auto& entry : fs::directory_iterator("/proc")) {
            const pid_t pid = std::atoi(entry.path().filename().c_str());
            if (pid > 0 && comm(pid) == name && is_below(pid)) return pid;
        }
        return 0;
    }

private:
    static std::string comm(pid_t pid) {
        std::string name = read_text("/proc/" + std::to_string(pid) + "/comm").value_or("");
        if (!name.empty()) name.pop_back();
        return name;
    }
    static pid_t parent(pid_t pid) {
        const std::string stat = read_text("/proc/" + std::to_string(pid) + "/stat").value_or("");
        const std::size_t end = stat.rfind(')');
        return end == std::string::npos ? 0 : std::atoi(stat.c_str() + end + 4);
    }
    [[nodiscard]] bool is_below(pid_t pid) const {
        while (pid > 1 && pid != pid_) pid = parent(pid);
        return pid == pid_;
    }

    void start(const Run& run) {
        int link[2];
        int output[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link), 0);
        ASSERT_EQ(::pipe2(output, O_CLOEXEC), 0);
        link_ = std::make_unique<MessageSocket>(OwnedFd(link[0]));
        const OwnedFd theirs(link[1]);
        output_.reset(output[0]);
        const OwnedFd writes(output[1]);
        std::vector<std::string> words = {PPDSM_TEST_EXECUTOR,
                                          run.paths.directory,
                                          run.plan,
                                          PPDSM_LIBEXEC,
                                          std::to_string(run.kill_after),
                                          std::to_string(run.uid)};
        words.insert(words.end(), run.hidden.begin(), run.hidden.end());
        std::vector<char*> argv;
        argv.reserve(words.size() + 1);
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::dup2(writes.get(), 1);
            ::dup2(theirs.get(), 3);
            ::execv(argv[0], argv.data());
            _exit(127);
        }
        poller_ = std::make_unique<Poller>(loop_, link_->fd().get(), [this](int) {
            Result<WardenMessage> message = link_->receive();
            if (!message) return poller_->watch(0);
            if (broker_ != nullptr) broker_->attach(std::move(message->fds.at(0)));
        });
        poller_->watch(UV_READABLE);
    }

    Loop& loop_;
    FileBroker* broker_;
    pid_t pid_ = 0;
    OwnedFd output_;
    std::string said_;
    std::unique_ptr<MessageSocket> link_;
    std::unique_ptr<Poller> poller_;
    std::unique_ptr<Poller> over_;
};

}  // namespace ppdsm
