// The user's side of a run, wherever it is carried out: hands stdin and signals to it, shows what
// it releases, says what happened.
#pragma once

#include <termios.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cli/thread_output.h"
#include "dsm/io/loop.h"
#include "runtime/peer/home.h"
#include "runtime/peer/run.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

class FrontEnd final : public RunObserver {
public:
    /// `attached`: stdin, stdout and signals are the user's; otherwise the run is detached.
    FrontEnd(Loop& loop, Run& run, VcPaths paths, bool attached, bool statistics);
    ~FrontEnd() override;

    /// For a run that was interrupted while its stdin had not ended: ours goes on where that
    /// stopped. A file that begins with what the program has had already is taken for the same and
    /// read on from there. kInvalid: we have none to give.
    Status continue_input();
    /// Begins to listen; the loop is stopped when the run has ended and all output is delivered.
    void start();
    [[nodiscard]] int exit_code() const { return exit_code_; }
    [[nodiscard]] bool has_finished() const { return outcome_.has_value(); }
    /// Ends the showing, not the run: the loop is stopped as soon as nothing is being delivered.
    void leave();
    /// The run outlives us: when the terminal goes away, so do we, and the run goes on.
    void allow_leaving() { may_leave_ = true; }

    void on_started(pid_t program) override;
    void on_checkpoint_failed(const Error& reason, bool protected_now) override;
    void on_died(const std::string& cause) override;
    void on_restored(std::uint64_t generation) override;
    void on_released(std::uint64_t output_bytes) override;
    void on_files_not_written(const Error& reason) override;
    void on_output_stalled(const Error& reason) override;
    void on_thread_released(const ThreadRelease& release) override;
    void on_preview(Stream stream, ByteView data) override;
    void on_finished(const Outcome& outcome) override;
    void on_notice(const std::string& text) override;

private:
    void deliver();
    void note_lag();
    Status deliver_piece(std::uint64_t from_bytes, std::uint64_t to_bytes);
    Status write_out(Stream stream, ByteView data);
    void remember_delivered(std::uint64_t output_bytes);
    void watch_stdin();
    void read_stdin();
    void on_signal(int signal);
    void enter_raw_mode();
    void forward_window_size();
    void say(const std::string& line) const;
    void report_files(const ApplyReport& files) const;
    void report_statistics() const;
    void finish();

    Loop& loop_;
    Run& run_;
    bool attached_;
    bool may_leave_ = false;
    bool is_leaving_ = false;
    bool statistics_;
    bool live_;
    std::filesystem::path refusals_log_;
    OwnedFd delivered_file_;
    std::uint64_t delivered_bytes_ = 0;
    std::uint64_t released_bytes_ = 0;
    bool delivering_ = false;
    ThreadOutput threads_;
    std::vector<Stream> gone_;  ///< Streams whose reader has hung up.
    std::optional<Outcome> outcome_;
    int exit_code_ = kFailedExitCode;
    bool warned_ = false;
    bool files_warned_ = false;
    std::unique_ptr<Poller> stdin_poller_;
    Timer stdin_timer_;  ///< Reads on while stdin cannot be polled, or after back-pressure.
    bool stdin_pollable_ = false;
    std::vector<std::unique_ptr<SignalWatcher>> signals_;
    std::optional<termios> saved_terminal_;
    std::int64_t started_us_ = 0;
};

}  // namespace ppdsm
