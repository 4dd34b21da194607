// A progress line on a terminal for work over a second; nothing elsewhere.
#pragma once

#include <cstdint>
#include <string>

namespace ppdsm {

class ProgressLine {
public:
    explicit ProgressLine(std::string what);
    ~ProgressLine();  ///< Wipes the line.
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;
    void update(std::uint64_t done, std::uint64_t total);

private:
    std::string what_;
    std::int64_t started_us_;
    std::int64_t shown_us_ = 0;
    bool on_terminal_;
};

}  // namespace ppdsm
