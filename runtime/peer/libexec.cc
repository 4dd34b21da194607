#include "runtime/peer/libexec.h"

#include <unistd.h>

namespace ppdsm {

Result<std::filesystem::path> find_libexec() {
    std::error_code error;
    const std::filesystem::path executable = std::filesystem::read_symlink("/proc/self/exe", error);
    const std::filesystem::path here = executable.parent_path();
    for (const auto& place :
         {here, here.parent_path() / "libexec/ppdsm", here.parent_path() / "libexec"}) {
        if (::access((place / "ppdsm-warden").c_str(), X_OK) == 0) return place;
    }
    return fail(Code::kNotFound,
                "ppdsm-warden is not beside " + executable.string() + "; install ppdsm whole");
}

}  // namespace ppdsm
