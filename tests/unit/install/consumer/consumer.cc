#include <cstdio>

#include "ppdsm/ppdsm.h"

static_assert(PPDSM_VERSION_NUMBER ==
              PPDSM_VERSION_MAJOR * 10000 + PPDSM_VERSION_MINOR * 100 + PPDSM_VERSION_PATCH);

int main() {
    ppdsm::VirtualComputer vc;
    auto version = vc.spawn([] { return std::string(PPDSM_VERSION_TEXT); });
    return std::puts(version.get().c_str()) < 0 ? 1 : 0;
}
