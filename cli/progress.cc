#include "cli/progress.h"

#include <unistd.h>

#include <cstdio>

#include "dsm/base/wall_clock.h"

namespace ppdsm {

namespace {
constexpr std::int64_t kQuietUs = 1'000'000;
constexpr std::int64_t kEveryUs = 100'000;
constexpr int kBarWidth = 30;
}  // namespace

ProgressLine::ProgressLine(std::string what)
    : what_(std::move(what)),
      started_us_(monotonic_now_us()),
      on_terminal_(::isatty(STDERR_FILENO) != 0) {}

ProgressLine::~ProgressLine() {
    if (shown_us_ != 0) std::fprintf(stderr, "\r\033[K");
}

void ProgressLine::update(std::uint64_t done, std::uint64_t total) {
    const std::int64_t now_us = monotonic_now_us();
    if (!on_terminal_ || now_us - started_us_ < kQuietUs || now_us - shown_us_ < kEveryUs) return;
    shown_us_ = now_us;
    const double part = total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total);
    const int filled = static_cast<int>(part * kBarWidth);
    std::fprintf(stderr, "\r%s [%.*s%*s] %3.0f %%", what_.c_str(), filled,
                 "##############################", kBarWidth - filled, "", part * 100);
}

}  // namespace ppdsm
