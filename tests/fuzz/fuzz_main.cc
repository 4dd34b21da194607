// libFuzzer's entry, for the format called PPDSM_FUZZ_FORMAT; ci/fuzz.sh builds and runs them.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "tests/fuzz/formats.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace ppdsm::fuzz;
    static const Format& format = [&]() -> const Format& {
        const auto& all = formats();
        const auto found = std::find_if(all.begin(), all.end(), [](const Format& each) {
            return each.name == std::string_view(PPDSM_FUZZ_FORMAT);
        });
        if (found == all.end()) std::abort();
        return *found;
    }();
    const auto understood = format.again({data, size});
    if (understood && !is_stable(format, *understood)) std::abort();
    return 0;
}
