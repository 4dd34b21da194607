#include "runtime/peer/standard_streams.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>

namespace ppdsm {

namespace {

constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr std::size_t kBurstBytes = std::size_t{1} << 20;  // Then others have their turn.
constexpr std::uint64_t kRetryMs = 200;
constexpr std::size_t kPipeBytes = std::size_t{1} << 20;
constexpr unsigned char kEndOfTransmission = 4;

std::size_t index_of(Stream stream) { return stream == Stream::kStdout ? 0 : 1; }

void set_nonblocking(const OwnedFd& fd) {
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

std::string pipe_key(const OwnedFd& fd) {
    struct stat info{};
    ::fstat(fd.get(), &info);
    return "pipe:[" + std::to_string(info.st_ino) + "]";
}

}  // namespace

StandardStreams::StandardStreams(Loop& loop, OutputLog& log, InputJournal& input,
                                 Callbacks callbacks)
    : loop_(loop),
      log_(log),
      input_(input),
      callbacks_(std::move(callbacks)),
      retry_timer_(loop, [this] {
          if (flush()) watch_outputs();
      }) {}

StandardStreams::~StandardStreams() = default;

Result<std::vector<OwnedFd>> StandardStreams::make_pipes(std::uint64_t input_bytes) {
    std::vector<OwnedFd> theirs;
    keys_.clear();
    outputs_.clear();
    input_poller_.reset();
    for (int number = 0; number < 3; ++number) {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("make a pipe");
        OwnedFd read_end(ends[0]);
        OwnedFd write_end(ends[1]);
        OwnedFd& ours = number == 0 ? write_end : read_end;
        OwnedFd& program = number == 0 ? read_end : write_end;
        set_nonblocking(ours);
        if (number != 0) ::fcntl(ours.get(), F_SETPIPE_SZ, kPipeBytes);
        keys_.push_back(pipe_key(program));
        theirs.push_back(std::move(program));
        if (number == 0) {
            // Tells what is unread when our own end is long closed.
            input_probe_.reset(::fcntl(theirs.back().get(), F_DUPFD_CLOEXEC, 0));
            input_fd_ = std::move(ours);
        } else {
            outputs_.push_back(
                {number == 1 ? Stream::kStdout : Stream::kStderr, std::move(ours), nullptr, {}, 0});
        }
    }
    fed_bytes_ = input_bytes;
    return theirs;
}

void StandardStreams::adopt_terminal(OwnedFd master, std::uint64_t input_bytes) {
    terminal_ = true;
    set_nonblocking(master);
    outputs_.clear();
    input_poller_.reset();
    input_fd_.reset(::fcntl(master.get(), F_DUPFD_CLOEXEC, 0));
    outputs_.push_back({Stream::kStdout, std::move(master), nullptr, {}, 0});
    fed_bytes_ = input_bytes;
}

void StandardStreams::resize_terminal(unsigned short rows, unsigned short columns) {
    const winsize size{rows, columns, 0, 0};
    if (terminal_ && !outputs_.empty()) ::ioctl(outputs_.front().fd.get(), TIOCSWINSZ, &size);
}

void StandardStreams::start() {
    for (Output& output : outputs_) {
        Bytes& pending = pending_expected_[index_of(output.stream)];
        output.expected = std::exchange(pending, {});
        if (std::find(hung_up_.begin(), hung_up_.end(), output.stream) != hung_up_.end()) {
            output.expected.clear();
            output.fd.reset();
            continue;
        }
        Output* pumped = &output;
        output.poller = std::make_unique<Poller>(loop_, output.fd.get(), [this, pumped](int) {
            if (!pump(*pumped, kBurstBytes)) pumped->poller.reset();
        });
    }
    watch_outputs();
    if (input_fd_.valid()) {
        // A terminal's two directions are two descriptors, since a descriptor has one poller.
        input_poller_ =
            std::make_unique<Poller>(loop_, input_fd_.get(), [this](int) { pump_input(); });
    }
    feed();
}

void StandardStreams::watch_outputs() {
    const int events = held_ || !backlog_.empty() ? 0 : UV_READABLE | UV_DISCONNECT;
    for (Output& output : outputs_) {
        if (output.poller) output.poller->watch(events);
    }
}

void StandardStreams::hold(bool held) {
    if (std::exchange(held_, held) != held) watch_outputs();
}

bool StandardStreams::pump(Output& output, std::size_t limit_bytes) {
    std::array<std::uint8_t, kReadBytes> buffer;  // NOLINT: filled by read.
    for (std::size_t taken = 0; output.fd.valid();) {
        if (taken >= limit_bytes || !flush()) return true;
        const ssize_t got = ::read(output.fd.get(), buffer.data(), buffer.size());
        if (got > 0) {
            taken += static_cast<std::size_t>(got);
            accept(output, ByteView(buffer.data(), static_cast<std::size_t>(got)));
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            return false;  // EIO of a terminal whose last user is gone is its end of file.
        } else if (errno == EAGAIN) {
            return true;
        }
    }
    return false;
}

void StandardStreams::accept(Output& output, ByteView data) {
    if (output.matched < output.expected.size()) {
        const std::size_t repeated = std::min(data.size(), output.expected.size() - output.matched);
        if (!std::equal(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(repeated),
                        output.expected.begin() + static_cast<std::ptrdiff_t>(output.matched))) {
            callbacks_.on_failure(
                Error(Code::kCorrupt,
                      "the program, rolled back behind output that had been released, "
                      "did not write the same again"));
            return;
        }
        output.matched += repeated;
        data = data.subspan(repeated);
    }
    if (!data.empty()) keep(output.stream, data);
}

void StandardStreams::keep(Stream stream, ByteView data) {
    const Status appended = log_.append(stream, data);
    if (appended) return callbacks_.on_output(stream, data);
    if (appended.error().code() != Code::kOverloaded) {
        return callbacks_.on_failure(appended.error().within("keep the program's output"));
    }
    backlog_.emplace_back(stream, Bytes(data.begin(), data.end()));
    watch_outputs();
    retry_timer_.start(kRetryMs);
    callbacks_.on_stalled(appended.error().within("keep the program's output"));
}

bool StandardStreams::flush() {
    for (const auto& [stream, data] : std::exchange(backlog_, {})) {
        if (backlog_.empty()) {
            keep(stream, data);
        } else {
            backlog_.emplace_back(stream, data);
        }
    }
    return backlog_.empty();
}

void StandardStreams::feed() {
    if (input_poller_ != nullptr) pump_input();
}

void StandardStreams::pump_input() {
    for (;;) {
        const Result<Bytes> data = input_.read(fed_bytes_, kReadBytes);
        if (!data) {
            callbacks_.on_failure(data.error().within("stdin"));
            return;
        }
        if (data->empty()) break;
        const ssize_t written = ::write(input_fd_.get(), data->data(), data->size());
        if (written < 0 && errno == EAGAIN) {
            input_poller_->watch(UV_WRITABLE);
            return;
        }
        if (written < 0 && errno != EINTR) {
            input_poller_.reset();  // The program has closed its stdin.
            input_fd_.reset();
            return;
        }
        fed_bytes_ += static_cast<std::uint64_t>(std::max<ssize_t>(written, 0));
    }
    input_poller_->watch(0);
    if (!input_.ended()) return;
    if (terminal_) {
        (void)!::write(input_fd_.get(), &kEndOfTransmission, 1);
    }
    input_poller_.reset();
    input_fd_.reset();
}

void StandardStreams::hang_up(Stream stream) {
    hung_up_.push_back(stream);
    for (Output& output : outputs_) {
        if (output.stream != stream) continue;
        output.expected.clear();
        output.matched = 0;
        output.poller.reset();
        output.fd.reset();
    }
}

Result<std::uint64_t> StandardStreams::cut() {
    if (!drain()) return fail(Code::kOverloaded, "no room to keep the program's output");
    int unread = 0;
    if (input_probe_.valid()) ::ioctl(input_probe_.get(), FIONREAD, &unread);
    return fed_bytes_ - static_cast<std::uint64_t>(unread);
}

bool StandardStreams::drain() {
    for (Output& output : outputs_) {
        if (!pump(output, std::numeric_limits<std::size_t>::max())) output.poller.reset();
    }
    return backlog_.empty();
}

void StandardStreams::expect(Stream stream, Bytes released) {
    Bytes& pending = pending_expected_[index_of(stream)];
    pending.insert(pending.end(), released.begin(), released.end());
}

bool StandardStreams::catching_up() const {
    return std::any_of(outputs_.begin(), outputs_.end(), [](const Output& output) {
        return output.matched < output.expected.size();
    });
}

}  // namespace ppdsm
