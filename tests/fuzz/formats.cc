#include "tests/fuzz/formats.h"

namespace ppdsm::fuzz {

const std::vector<Format>& formats() {
    static const std::vector<Format> all = [] {
        std::vector<Format> made;
        add_link_formats(made);
        add_generation_formats(made);
        add_file_formats(made);
        return made;
    }();
    return all;
}

}  // namespace ppdsm::fuzz
