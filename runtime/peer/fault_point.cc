#include "runtime/peer/fault_point.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>

namespace ppdsm {

void fault_point(const char* name) {
    static const char* const wanted = std::getenv("PPDSM_FAULT");
    if (wanted == nullptr) return;
    static const std::string text = wanted;
    static const std::size_t colon = text.find(':');
    static const std::string place = text.substr(0, colon);
    static std::atomic<long> left =
        colon == std::string::npos ? 1 : std::atol(text.c_str() + colon + 1);
    if (place == name && --left == 0) ::kill(::getpid(), SIGKILL);
}

}  // namespace ppdsm
