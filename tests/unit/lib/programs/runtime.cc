// A runtime library that announces itself as one to be preloaded does: serves as the plain run
// does, but for the log; or refuses, built with -DREFUSES.
#include <cstdio>

#include "ppdsm/plain.h"

extern "C" const ppdsm::abi::Backend* ppdsm_runtime(std::uint32_t header_version) {
#ifdef REFUSES
    static_cast<void>(header_version);
    return nullptr;
#else
    static const ppdsm::abi::Backend backend = [] {
        auto served = ppdsm::detail::plain::kBackend;
        served.log = [](const char* text, std::uint64_t size) {
            std::printf("served: %.*s\n", static_cast<int>(size), text);
            return ppdsm::abi::kDone;
        };
        return served;
    }();
    return header_version == ppdsm::abi::kVersion ? &backend : nullptr;
#endif
}
