// PPDSM_CHECK: a bug of ours stops the process, in release builds too. Bad input never comes here.
#pragma once

#include <cstdio>
#include <cstdlib>

#define PPDSM_CHECK(condition)                                                               \
    do {                                                                                     \
        if (!(condition)) [[unlikely]] {                                                     \
            std::fprintf(stderr, "ppdsm: bug: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::abort();                                                                    \
        }                                                                                    \
    } while (false)
