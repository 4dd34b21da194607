#include "tests/fuzz/formats.h"

namespace ppdsm::fuzz {

const std::vector<Format>& formats() {
    static const std::vector<Format> kAll = [] {
        std::vector<Format> made;
        add_link_formats(made);
        add_generation_formats(made);
        add_file_formats(made);
        add_run_formats(made);
        add_ring_formats(made);
        return made;
    }();
    return kAll;
}

bool is_stable(const Format& format, const Bytes& understood) {
    const Result<Bytes> again = format.again(understood);
    return again && *again == understood;
}

}  // namespace ppdsm::fuzz
