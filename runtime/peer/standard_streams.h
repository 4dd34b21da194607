// The executor's ends of a program's stdin, stdout and stderr: three pipes, or one terminal. Output
// goes into the output log; input comes out of the input journal.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dsm/io/loop.h"
#include "runtime/peer/journals.h"

namespace ppdsm {

class StandardStreams {
public:
    struct Callbacks {
        /// New output is in the log.
        std::function<void(Stream, ByteView)> on_output;
        /// Something that makes the run wrong or impossible: the log cannot be written, or a
        /// program that was rolled back did not repeat what had been released.
        std::function<void(const Error&)> on_failure;
        /// There is no room for the log: the program's output waits until there is.
        std::function<void(const Error&)> on_stalled;
    };

    StandardStreams(Loop& loop, OutputLog& log, InputJournal& input, Callbacks callbacks);
    ~StandardStreams();

    /// Makes pipes and returns the program's ends (0, 1, 2). stdin begins at `input_bytes` of the
    /// journal.
    Result<std::vector<OwnedFd>> make_pipes(std::uint64_t input_bytes);
    /// CRIU's names of the program's ends, for a restore: "pipe:[inode]" each.
    [[nodiscard]] const std::vector<std::string>& keys() const { return keys_; }
    void adopt_terminal(OwnedFd master, std::uint64_t input_bytes);
    void resize_terminal(unsigned short rows, unsigned short columns);

    /// Begins to pump. Called when the program runs.
    void start();
    [[nodiscard]] std::uint64_t unread_input_bytes() const {
        return input_.data_bytes() - fed_bytes_;
    }
    /// More input is in the journal.
    void feed();
    /// Nobody reads this stream any more: the program, also one that was brought back, gets EPIPE
    /// as it would from a plain pipe.
    void hang_up(Stream stream);
    /// Too much is waiting to be released or read: leaves what the program writes in its pipes.
    void hold(bool held);

    /// The program is frozen: takes all it has written and returns how much stdin it has consumed.
    /// kOverloaded: there is no room to keep its output.
    Result<std::uint64_t> cut();
    /// The program is gone: takes what is left. False while there is no room for it.
    bool drain();

    /// Output that has been released already and that a program rolled back behind it must repeat;
    /// it is compared and swallowed.
    void expect(Stream stream, Bytes released);
    [[nodiscard]] bool catching_up() const;

private:
    struct Output {
        Stream stream{};
        OwnedFd fd;
        std::unique_ptr<Poller> poller;
        Bytes expected;
        std::size_t matched = 0;
    };
    /// Reads until it would block, the limit is reached or the log has no room; false at the end of
    /// file.
    bool pump(Output& output, std::size_t limit_bytes);
    void accept(Output& output, ByteView data);
    void keep(Stream stream, ByteView data);
    /// Tries again to keep what waits for room; false when some still does.
    bool flush();
    void watch_outputs();
    void pump_input();

    Loop& loop_;
    OutputLog& log_;
    InputJournal& input_;
    Callbacks callbacks_;
    std::vector<std::string> keys_;
    std::vector<Output> outputs_;
    std::vector<std::pair<Stream, Bytes>> backlog_;  ///< Read, but the log had no room.
    std::vector<Stream> hung_up_;
    Timer retry_timer_;
    bool held_ = false;
    Bytes pending_expected_[2];
    OwnedFd input_fd_;
    OwnedFd input_probe_;  ///< The reading end of stdin's pipe; none for a terminal.
    std::unique_ptr<Poller> input_poller_;
    std::uint64_t fed_bytes_ = 0;
    bool terminal_ = false;
};

}  // namespace ppdsm
