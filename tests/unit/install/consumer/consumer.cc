#include <cstdio>

#include "ppdsm/version.h"

static_assert(PPDSM_VERSION_NUMBER ==
              PPDSM_VERSION_MAJOR * 10000 + PPDSM_VERSION_MINOR * 100 + PPDSM_VERSION_PATCH);

int main() { return std::puts(PPDSM_VERSION_TEXT) < 0 ? 1 : 0; }
