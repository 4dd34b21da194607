// ppdsm for programs: virtual computers, virtual threads, messages. This header is all there is:
// nothing to link.
//
//     int square(int x) { return x * x; }
//
//     int main() {
//         ppdsm::VirtualComputer vc({.workers = 4});
//         auto thread = vc.spawn(square, 7);
//         return thread.get() == 49 ? 0 : 1;
//     }
//
// Started plainly, virtual threads are threads of the process. Under `ppdsm exec` each is a process
// of the same program on some peer: so virtual threads share nothing but what they pass to each
// other. docs/programming.md is the guide. C++17 and later, gcc and clang, on Linux.
#pragma once

#include "ppdsm/computer.h"
#include "ppdsm/errors.h"
#include "ppdsm/mailbox.h"
#include "ppdsm/portable.h"
#include "ppdsm/self.h"
#include "ppdsm/thread.h"
#include "ppdsm/version.h"
