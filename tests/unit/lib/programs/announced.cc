// A program for check_builds.sh: says who serves it.
#include <cstdio>

#include "ppdsm/ppdsm.h"

int main() {
    try {
        ppdsm::VirtualComputer vc;
        vc.spawn([] { ppdsm::self().log("hello"); }).get();
    } catch (const ppdsm::Disconnected& error) {
        std::printf("%s\n", error.what());
    }
}
