#include "cli/front_end.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "cli/duration.h"
#include "cli/refusal_report.h"
#include "dsm/base/wall_clock.h"

namespace ppdsm {

namespace {

constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr std::uint64_t kDeliverBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostLagBytes = std::uint64_t{64} << 20;  // Behind what was released.
constexpr std::uint64_t kInputRetryMs = 5;
constexpr std::array kForwarded = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT,
                                   SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT};

int fd_of(Stream stream) { return stream == Stream::kStdout ? STDOUT_FILENO : STDERR_FILENO; }

Status write_to(int fd, ByteView data) {
    while (!data.empty()) {
        const ssize_t written = ::write(fd, data.data(), data.size());
        if (written < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) {
                // Whoever shares the pipe made it non-blocking: wait for room.
                fd_set set;
                FD_ZERO(&set);
                FD_SET(fd, &set);
                ::select(fd + 1, nullptr, &set, nullptr, nullptr);
                continue;
            }
            return fail_errno("write");
        }
        data = data.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

}  // namespace

FrontEnd::FrontEnd(Loop& loop, Run& run, VcPaths paths, bool attached, bool statistics)
    : loop_(loop),
      run_(run),
      attached_(attached),
      statistics_(statistics),
      live_(run.record().output == OutputMode::kLive),
      refusals_log_(paths.refusals()),
      threads_(paths.directory.parent_path()),
      stdin_timer_(loop, [this] { watch_stdin(); }),
      started_us_(monotonic_now_us()) {
    delivered_file_.reset(::open(paths.delivered().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    std::uint64_t offset = 0;
    if (::pread(delivered_file_.get(), &offset, sizeof offset, 0) == sizeof offset)
        delivered_bytes_ = offset;
    released_bytes_ = delivered_bytes_;
}

FrontEnd::~FrontEnd() {
    if (saved_terminal_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &*saved_terminal_);
}

void FrontEnd::start() {
    ::signal(SIGPIPE, SIG_IGN);
    if (!attached_) {
        run_.end_input();
        return;
    }
    for (const int signal : kForwarded) {
        signals_.push_back(std::make_unique<SignalWatcher>(
            loop_, signal, [this](int number) { on_signal(number); }));
    }
    if (run_.record().terminal) {
        enter_raw_mode();
        signals_.push_back(std::make_unique<SignalWatcher>(loop_, SIGWINCH,
                                                           [this](int) { forward_window_size(); }));
    }
    struct stat info{};
    stdin_pollable_ =
        ::fstat(STDIN_FILENO, &info) == 0 &&
        (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode) || ::isatty(STDIN_FILENO) != 0);
    if (stdin_pollable_) {
        stdin_poller_ =
            std::make_unique<Poller>(loop_, STDIN_FILENO, [this](int) { read_stdin(); });
    }
}

Status FrontEnd::continue_input() {
    const InputJournal& input = run_.input();
    const std::uint64_t given_bytes = input.data_bytes();
    if (given_bytes == 0 || input.ended() || run_.record().terminal) return {};
    struct stat info{};
    if (!attached_ || ::fstat(STDIN_FILENO, &info) != 0 || S_ISCHR(info.st_mode)) {
        return fail(
            Code::kInvalid,
            fmt::format("its stdin had not ended; resume it attached, with the same file on "
                        "stdin, or with what follows byte {} of the same stream",
                        given_bytes));
    }
    bool is_same = S_ISREG(info.st_mode);
    Bytes ours;
    for (std::uint64_t at = 0; is_same && at < given_bytes; at += ours.size()) {
        PPDSM_ASSIGN(const Bytes given, input.read(at, kReadBytes));
        ours.resize(given.size());
        const ssize_t got = ::pread(STDIN_FILENO, ours.data(), ours.size(), static_cast<off_t>(at));
        is_same = got == static_cast<ssize_t>(given.size()) && ours == given;
    }
    if (is_same) ::lseek(STDIN_FILENO, static_cast<off_t>(given_bytes), SEEK_SET);
    say(fmt::format("stdin is taken for what follows byte {} of the program's input", given_bytes));
    return {};
}

void FrontEnd::enter_raw_mode() {
    termios settings{};
    if (::tcgetattr(STDIN_FILENO, &settings) != 0) return;
    saved_terminal_ = settings;
    ::cfmakeraw(&settings);
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &settings);
}

void FrontEnd::forward_window_size() {
    winsize size{};
    if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
        run_.resize_terminal(size.ws_row, size.ws_col);
}

void FrontEnd::watch_stdin() {
    if (!run_.wants_input()) {
        if (stdin_poller_) stdin_poller_->watch(0);
        // Asked again soon: either the program reads on, or it has not started yet.
        if (!outcome_) stdin_timer_.start(kInputRetryMs);
        return;
    }
    if (stdin_pollable_) {
        if (stdin_poller_) stdin_poller_->watch(UV_READABLE | UV_DISCONNECT);
    } else {
        read_stdin();
    }
}

void FrontEnd::read_stdin() {
    if (!run_.wants_input()) return watch_stdin();
    std::array<std::uint8_t, kReadBytes> buffer;  // NOLINT: filled by read.
    const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return watch_stdin();
    if (got <= 0) {
        stdin_poller_.reset();
        stdin_timer_.stop();
        run_.end_input();
        return;
    }
    run_.give_input(ByteView(buffer.data(), static_cast<std::size_t>(got)));
    if (!stdin_pollable_) stdin_timer_.start(0);
}

void FrontEnd::leave() {
    is_leaving_ = true;
    if (!delivering_) loop_.stop();
}

void FrontEnd::on_notice(const std::string& text) { say(text); }

void FrontEnd::on_signal(int signal) {
    if (signal == SIGHUP && may_leave_) return leave();
    run_.forward_signal(signal);
    // Like the program, we stop; the shell wakes both.
    if (signal == SIGTSTP) ::raise(SIGSTOP);
}

void FrontEnd::on_started(pid_t /*program*/) {
    if (!attached_) return;
    if (run_.record().terminal) forward_window_size();
    watch_stdin();
}

void FrontEnd::on_released(std::uint64_t output_bytes) {
    released_bytes_ = std::max(released_bytes_, output_bytes);
    if (live_) return remember_delivered(released_bytes_);
    note_lag();
    deliver();
}

void FrontEnd::on_thread_released(const ThreadRelease& release) {
    threads_.note(release);
    deliver();
}

void FrontEnd::note_lag() {
    if (attached_) run_.hold_output(released_bytes_ - delivered_bytes_ > kMostLagBytes);
}

void FrontEnd::on_preview(Stream stream, ByteView data) {
    if (!live_ || !attached_) return;
    const Status written = write_to(fd_of(stream), data);
    if (written || written.error().errno_value() != EPIPE) return;
    // Later: we are called from the stream that this closes.
    loop_.post([this, stream] { run_.hang_up(stream); });
}

/// One piece after the other on a pool thread: a slow reader must not hold up the run.
void FrontEnd::deliver() {
    if (!attached_ || delivering_) return;
    const bool is_shown = live_ || delivered_bytes_ >= released_bytes_;
    if (is_shown && !threads_.has_more()) {
        if (outcome_) finish();
        return;
    }
    delivering_ = true;
    auto result = std::make_shared<Status>();
    const std::uint64_t from_bytes = delivered_bytes_;
    const std::uint64_t to_bytes = is_shown ? from_bytes : released_bytes_;
    loop_.offload(
        [this, result, from_bytes, to_bytes] {
            *result = deliver_piece(from_bytes, to_bytes);
            if (!*result) return;
            *result = threads_.deliver(
                [this](Stream stream, ByteView data) { return write_out(stream, data); });
        },
        [this, result] {
            delivering_ = false;
            if (is_leaving_) return loop_.stop();
            for (const Stream stream : gone_) run_.hang_up(stream);
            if (!*result) {
                say("cannot show the output: " + result->error().message());
                delivered_bytes_ = released_bytes_;
            }
            if (!outcome_) note_lag();
            deliver();
        });
}

Status FrontEnd::deliver_piece(std::uint64_t from_bytes, std::uint64_t to_bytes) {
    const std::uint64_t stop_bytes = from_bytes + kDeliverBytes;
    while (from_bytes < to_bytes && from_bytes < stop_bytes) {
        PPDSM_ASSIGN(const OutputLog::Piece piece, run_.output().read(from_bytes, to_bytes));
        PPDSM_TRY(write_out(piece.stream, piece.data));
        from_bytes = piece.next_bytes;
        remember_delivered(from_bytes);
    }
    return {};
}

/// A reader that has gone is no error.
Status FrontEnd::write_out(Stream stream, ByteView data) {
    const bool gone = std::find(gone_.begin(), gone_.end(), stream) != gone_.end();
    if (gone || data.empty()) return {};
    const Status written = write_to(fd_of(stream), data);
    if (!written && written.error().errno_value() != EPIPE) return written;
    if (!written) gone_.push_back(stream);
    return {};
}

void FrontEnd::remember_delivered(std::uint64_t output_bytes) {
    delivered_bytes_ = output_bytes;
    (void)!::pwrite(delivered_file_.get(), &output_bytes, sizeof output_bytes, 0);
}

void FrontEnd::say(const std::string& line) const {
    const std::string text = fmt::format("ppdsm: {}{}\n", line, saved_terminal_ ? "\r" : "");
    (void)write_to(STDERR_FILENO, as_bytes(text));
}

void FrontEnd::on_checkpoint_failed(const Error& reason, bool protected_now) {
    if (std::exchange(warned_, true)) return;
    if (protected_now || reason.code() != Code::kUnsupported) {
        say("checkpoint not committed: " + reason.message() +
            " (the program goes on; its last generation stands)");
    } else {
        say("not protected: " + reason.message() + " (the program goes on without checkpoints)");
    }
}

void FrontEnd::on_files_not_written(const Error& reason) {
    if (!std::exchange(files_warned_, true)) {
        say("files not written home: " + reason.message() + " (tried again with the next commit)");
    }
}

void FrontEnd::on_output_stalled(const Error& reason) {
    say(reason.message() + " (the program waits until there is room)");
}

void FrontEnd::on_died(const std::string& cause) { say(cause); }
void FrontEnd::on_restored(std::uint64_t generation) {
    say(generation == 0 ? "started again from the beginning (nothing had been released)"
                        : fmt::format("goes on from generation {}", generation));
}

void FrontEnd::on_finished(const Outcome& outcome) {
    outcome_ = outcome;
    exit_code_ = outcome.exit_code;
    stdin_timer_.stop();
    stdin_poller_.reset();
    if (saved_terminal_) {
        ::tcsetattr(STDIN_FILENO, TCSADRAIN, &*saved_terminal_);
        saved_terminal_.reset();
    }
    if (!outcome.failure.empty()) say(outcome.failure);
    report_files(outcome.files);
    if (statistics_) report_statistics();
    if (!attached_) return finish();
    deliver();
}

/// After the program's own output.
void FrontEnd::finish() {
    const Advice advice{run_.record().uid, refusals_log_};
    for (const std::string& line : describe_refusals(outcome_->refusals, advice)) say(line);
    loop_.stop();
}

void FrontEnd::report_files(const ApplyReport& files) const {
    for (const auto& [kept, ours] : files.conflicts) {
        say(fmt::format(
            "{} changed at home during the run and was kept; the program's version is {}", kept,
            ours));
    }
    for (const std::string& skipped : files.skipped) say("not written at home: " + skipped);
}

void FrontEnd::report_statistics() const {
    const RunStatistics& sums = run_.statistics();
    const double seconds = static_cast<double>(monotonic_now_us() - started_us_) / 1e6;
    const double mean_ms = sums.generations == 0 ? 0
                                                 : static_cast<double>(sums.pause_us_sum) / 1000 /
                                                       static_cast<double>(sums.generations);
    say(
        fmt::format("ran {:.2f} s; {} generations, {} restores; pause mean {:.1f} ms, longest "
                    "{:.1f} ms; stored {} "
                    "new, last generation {}",
                    seconds, sums.generations, sums.restores, mean_ms,
                    static_cast<double>(sums.pause_us_max) / 1000, format_bytes(sums.bytes_new),
                    format_bytes(sums.bytes_total)));
}

}  // namespace ppdsm
