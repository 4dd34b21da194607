// How the runtime library gets into a program: `ppdsm exec` preloads it. It announces itself to the
// headers, and in a process that was started for a virtual thread it takes the place of main, after
// the program's static objects are made.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/lib/preload/backend.h"

// In older C libraries it lies in a library that the program may not have.
extern "C" __attribute__((weak)) decltype(dlsym) dlsym;

namespace {

using Main = int (*)(int, char**, char**);
Main program_main = nullptr;

int start(int argc, char** argv, char** environment) {
    const char* spawned = getenv("PPDSM_SPAWNED");
    if (spawned == nullptr) return program_main(argc, argv, environment);
    // What it starts itself is no virtual thread.
    unsetenv("PPDSM_SPAWNED");
    ppdsm::preload::run_spawned();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const ppdsm::abi::Backend* ppdsm_runtime(
    std::uint32_t header_version) {
    return header_version == ppdsm::abi::kVersion ? &ppdsm::preload::kBackend : nullptr;
}

extern "C" __attribute__((visibility("default"))) int __libc_start_main(Main main, int argc,
                                                                        char** argv, void (*init)(),
                                                                        void (*fini)(),
                                                                        void (*rtld_fini)(),
                                                                        void* stack_end) {
    using Start = int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);
    const auto real =
        dlsym == nullptr ? nullptr : reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"));
    if (real == nullptr) {
        constexpr char kWhy[] =
            "ppdsm: the program's C library is too old for virtual threads (glibc 2.34 is "
            "needed)\n";
        (void)!write(2, kWhy, sizeof kWhy - 1);
        _exit(127);
    }
    program_main = main;
    return real(start, argc, argv, init, fini, rtld_fini, stack_end);
}
