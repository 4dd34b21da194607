// A child process with its standard streams in our hands: pipes, or a terminal of its own. Its
// output is collected in the background, so that it never blocks on us.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "dsm/base/owned_fd.h"

namespace ppdsm::process_test {

/// How a process ended and what it wrote. Beyond kKeptBytes of one stream only its size and hash.
struct Outcome {
    static constexpr std::uint64_t kKeptBytes = std::uint64_t{256} << 20;

    int exit_code = -1;  ///< As a shell says it: 128 + n for signal n. -1: it did not end in time.
    std::string out, err;
    std::uint64_t out_bytes = 0, out_hash = 0;
    double wall_s = 0;
};

/// What the child's standard input is.
struct Input {
    enum class Kind {
        kNull,      ///< /dev/null.
        kText,      ///< `text`, then the end.
        kOpen,      ///< A pipe: write_input(), close_input().
        kTerminal,  ///< A terminal for all three streams; stderr arrives with stdout.
    };
    Kind kind = Kind::kNull;
    std::string text;

    static Input text_then_end(std::string text) { return {Kind::kText, std::move(text)}; }
    static Input open_pipe() { return {Kind::kOpen, {}}; }
    static Input terminal() { return {Kind::kTerminal, {}}; }
};

class ChildProcess {
public:
    /// Starts argv[0] (looked up in the PATH of `environment`). It dies with the thread that calls
    /// this. Aborts when the machine has no processes or descriptors left.
    ChildProcess(const std::vector<std::string>& argv, const std::filesystem::path& cwd,
                 const std::map<std::string, std::string>& environment, Input input);
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    /// Kills it (it alone) when it still runs.
    ~ChildProcess();

    [[nodiscard]] pid_t pid() const { return pid_; }
    void send_signal(int signal_number) const;
    [[nodiscard]] bool has_ended();
    /// Waits for the end of the process and of its output streams; past the deadline the process is
    /// killed and the test fails. To be called once.
    Outcome wait(std::chrono::duration<double> deadline);

    /// What has arrived so far.
    [[nodiscard]] std::string out_so_far() const;
    [[nodiscard]] std::string err_so_far() const;

    void write_input(std::string_view text);
    void close_input();
    /// Terminal only.
    void set_window(unsigned short rows, unsigned short columns);

private:
    struct Stream {
        OwnedFd fd;
        std::string kept;
        std::uint64_t size_bytes = 0;
        void* hash_state = nullptr;
    };
    void pump();
    bool pump_stream(Stream& stream);
    void feed_input();
    bool reap(bool block_for_it);

    pid_t pid_ = -1;
    OwnedFd pidfd_;
    std::optional<int> wait_status_;
    std::chrono::steady_clock::time_point started_;
    double wall_s_ = 0;

    mutable std::mutex mutex_;  ///< Guards the streams' contents.
    Stream out_, err_;
    OwnedFd input_;        ///< Write end of stdin; the terminal's master when there is one.
    std::string to_feed_;  ///< What the pump still has to write to stdin.
    std::size_t fed_ = 0;
    OwnedFd stop_read_, stop_write_;  ///< Closing stop_write_ ends the pump.
    bool pump_done_ = false;          ///< Under mutex_.
    std::thread pump_thread_;
};

}  // namespace ppdsm::process_test
