#include "runtime/peer/exposure.h"

#include <filesystem>
#include <iterator>
#include <system_error>

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

fs::path without_first(const fs::path& path) {
    fs::path rest;
    for (auto name = std::next(path.begin()); name != path.end(); ++name) rest /= *name;
    return rest;
}

/// The links on the way along `path`, which is absolute and leads somewhere: there is no circle.
std::vector<std::pair<std::string, std::string>> links_along(const fs::path& path) {
    std::vector<std::pair<std::string, std::string>> links;
    std::error_code error;
    fs::path walked = "/";
    fs::path rest = path.relative_path();
    while (!rest.empty()) {
        const fs::path name = *rest.begin();
        rest = without_first(rest);
        if (name.empty() || name == ".") continue;
        const fs::path next = name == ".." ? walked.parent_path() : walked / name;
        const fs::path target = fs::read_symlink(next, error);
        if (error) {
            walked = next;
            continue;
        }
        links.emplace_back(next, target);
        if (target.is_absolute()) walked = "/";
        rest = target.relative_path() / rest;
    }
    return links;
}

}  // namespace

Result<Exposure> parse_exposure(const std::string& text) {
    Exposure exposure{text, false, {}};
    if (text.ends_with(":rw") || text.ends_with(":ro")) {
        exposure.writable = text.ends_with(":rw");
        exposure.path = text.substr(0, text.size() - 3);
    }
    std::error_code error;
    const fs::path asked = fs::absolute(exposure.path, error);
    exposure.path = fs::canonical(asked, error);
    if (error) return fail(Error::from_errno("--expose " + text, error.value()));
    exposure.links = links_along(asked);
    return exposure;
}

}  // namespace ppdsm
