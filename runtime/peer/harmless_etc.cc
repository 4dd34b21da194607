#include "runtime/peer/harmless_etc.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <string>
#include <system_error>

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

constexpr std::array kHarmless = {
    "ImageMagick-6",
    "R",
    "alternatives",
    "bash.bashrc",
    "ca-certificates.conf",
    "ca-certificates",
    "debian_version",
    "environment",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "lsb-release",
    "magic",
    "magic.mime",
    "mailcap",
    "manpath.config",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "papersize",
    "passwd",
    "perl",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "python3.11",
    "python3.13",
    "services",
    "shells",
    "skel",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "texmf",
    "timezone",
    "vim",
    "xml",
};

/// Changes when an entry appears, vanishes or is replaced.
std::string fingerprint() {
    std::string facts;
    for (const char* name : kHarmless) {
        struct stat info{};
        if (::lstat((std::string("/etc/") + name).c_str(), &info) != 0) continue;
        facts += fmt::format("{}:{}:{}.{};", name, info.st_size, info.st_mtim.tv_sec,
                             info.st_mtim.tv_nsec);
    }
    return fmt::format("etc-{:016x}", XXH3_64bits(facts.data(), facts.size()));
}

void copy_readable(const fs::path& from, const fs::path& to) {
    std::error_code error;
    fs::create_directories(to.parent_path(), error);
    const fs::file_status status = fs::symlink_status(from, error);
    if (error || status.type() == fs::file_type::not_found) return;
    if (fs::is_directory(status)) {
        fs::create_directories(to, error);
        for (const fs::directory_entry& entry : fs::directory_iterator(from, error)) {
            copy_readable(entry.path(), to / entry.path().filename());
        }
    } else if (fs::is_symlink(status)) {
        fs::copy_symlink(from, to, error);
    } else if (fs::is_regular_file(status)) {
        // What others may not read is not harmless.
        if ((status.permissions() & fs::perms::others_read) != fs::perms::none) {
            fs::copy_file(from, to, error);
        }
    }
}

}  // namespace

Result<fs::path> harmless_etc(const fs::path& cache) {
    fs::path wanted = cache / fingerprint();
    std::error_code error;
    if (fs::exists(wanted, error)) return wanted;
    fs::path pending = wanted;
    pending += ".pending-" + std::to_string(::getpid());
    fs::create_directories(pending, error);
    if (error) return fail(Error::from_errno("make " + pending.string(), error.value()));
    for (const char* name : kHarmless) copy_readable(fs::path("/etc") / name, pending / name);
    fs::rename(pending, wanted, error);
    if (error) fs::remove_all(pending, error);  // Another run was faster: its copy serves.
    if (!fs::exists(wanted, error)) return fail(Code::kIo, "cannot make " + wanted.string());
    return wanted;
}

}  // namespace ppdsm
