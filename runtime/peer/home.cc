#include "runtime/peer/home.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "dsm/base/files.h"
#include "runtime/peer/vc_record.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

// Bytes of the lock file. The executor has both for its life; nobody else ever holds the first.
constexpr off_t kExecutorByte = 0;
constexpr off_t kWaitersByte = 1;

struct flock byte_range(short type, off_t byte) {
    struct flock range{};
    range.l_type = type;
    range.l_whence = SEEK_SET;
    range.l_start = byte;
    range.l_len = 1;
    return range;
}

/// `command`: F_OFD_SETLK, or F_OFD_SETLKW to wait.
bool lock_byte(const OwnedFd& file, int command, short type, off_t byte) {
    struct flock range = byte_range(type, byte);
    int result = 0;
    while ((result = ::fcntl(file.get(), command, &range)) != 0 && errno == EINTR) {
    }
    return result == 0;
}

fs::path default_directory() {
    if (const char* home = std::getenv("PPDSM_HOME"); home != nullptr && *home != '\0') return home;
    if (::geteuid() == 0) return "/var/lib/ppdsm";
    if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data != '\0') {
        return fs::path(data) / "ppdsm";
    }
    const char* user_home = std::getenv("HOME");
    return fs::path(user_home == nullptr ? "/tmp" : user_home) / ".local/share/ppdsm";
}

/// 8 digits of base 32 without look-alikes: short enough to type, unique on a peer.
std::string random_id() {
    constexpr std::string_view kDigits = "abcdefghijkmnpqrstuvwxyz23456789";
    std::array<unsigned char, 8> noise{};
    std::string id;
    if (::getrandom(noise.data(), noise.size(), 0) != static_cast<ssize_t>(noise.size())) return id;
    for (const unsigned char byte : noise) id += kDigits[byte % kDigits.size()];
    return id;
}

}  // namespace

Result<Home> Home::open() { return open_at(default_directory()); }

Result<Home> Home::open_at(const fs::path& directory) {
    std::error_code error;
    Home home(fs::absolute(directory, error));
    PPDSM_TRY(make_directories(home.directory(), 0700));
    PPDSM_TRY(make_directories(home.vcs(), 0700));
    PPDSM_TRY(make_directories(home.cache(), 0755));
    return home;
}

Result<VcPaths> Home::create_vc() const {
    for (int attempt = 0; attempt < 16; ++attempt) {
        VcPaths paths{vcs() / random_id()};
        std::error_code error;
        if (!fs::create_directory(paths.directory, error)) {
            if (error) {
                return fail(
                    Error::from_errno("make directory " + paths.directory.string(), error.value()));
            }
            continue;
        }
        fs::permissions(paths.directory, fs::perms::owner_all, error);
        PPDSM_TRY(make_directories(paths.manifests(), 0700));
        PPDSM_TRY(sync_directory(vcs()));
        return paths;
    }
    return fail(Code::kIo, "no free id for a virtual computer in " + vcs().string());
}

std::vector<VcPaths> Home::list() const {
    std::vector<std::pair<fs::file_time_type, VcPaths>> found;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(vcs(), error)) {
        const VcPaths paths{entry.path()};
        std::error_code absent;
        const auto time = fs::last_write_time(paths.record(), absent);
        if (!absent) found.emplace_back(time, paths);
    }
    std::sort(found.begin(), found.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<VcPaths> all;
    for (auto& [time, paths] : found) all.push_back(std::move(paths));
    return all;
}

Result<VcPaths> Home::find(const std::string& id_or_name) const {
    std::vector<VcPaths> matches;
    const std::vector<VcPaths> all = list();
    for (const VcPaths& paths : all) {
        if (paths.id() == id_or_name) return paths;
        if (paths.id().starts_with(id_or_name)) matches.push_back(paths);
    }
    // A whole name before the beginning of an id: who chose the name knows no ids.
    for (auto paths = all.rbegin(); paths != all.rend(); ++paths) {
        const Result<VcRecord> record = read_record(*paths);
        if (record && record->name == id_or_name) return *paths;
    }
    if (matches.size() == 1) return matches.front();
    if (matches.empty()) {
        return fail(Code::kNotFound, "no virtual computer is called " + id_or_name +
                                         "; `ppdsm ps --all` lists them");
    }
    std::string ids;
    for (const VcPaths& paths : matches) ids += " " + paths.id();
    return fail(Code::kInvalid, id_or_name + " could be any of" + ids);
}

bool is_vc_id(const std::string& text) {
    return !text.empty() && text.size() <= 64 &&
           std::all_of(text.begin(), text.end(), [](unsigned char c) {
               return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '-';
           });
}

Result<OwnedFd> lock_vc(const VcPaths& paths) {
    PPDSM_ASSIGN(OwnedFd lock, open_file(paths.lock(), O_RDWR | O_CREAT, 0600));
    if (!lock_byte(lock, F_OFD_SETLK, F_WRLCK, kExecutorByte)) {
        return fail(Code::kUnavailable, "another executor runs " + paths.id() +
                                            "; `ppdsm ps` shows it, `ppdsm kill` ends it");
    }
    // Those who waited for the executor before us let go of it at once.
    if (!lock_byte(lock, F_OFD_SETLKW, F_WRLCK, kWaitersByte)) {
        return fail_errno("lock " + paths.lock().string());
    }
    return lock;
}

Result<OwnedFd> pin_generations(const VcPaths& paths) {
    PPDSM_ASSIGN(OwnedFd pin, open_file(paths.pins(), O_RDWR | O_CREAT, 0600));
    while (::flock(pin.get(), LOCK_SH) != 0) {
        if (errno != EINTR) return fail_errno("pin the generations of " + paths.id());
    }
    return pin;
}

Result<OwnedFd> claim_generations(const VcPaths& paths) {
    PPDSM_ASSIGN(OwnedFd claim, open_file(paths.pins(), O_RDWR | O_CREAT, 0600));
    if (::flock(claim.get(), LOCK_EX | LOCK_NB) != 0) {
        return fail(Code::kUnavailable, "the generations of " + paths.id() + " are being read");
    }
    return claim;
}

bool is_locked(const VcPaths& paths) {
    const Result<OwnedFd> lock = open_file(paths.lock(), O_RDWR);
    if (!lock) return false;
    struct flock held = byte_range(F_WRLCK, kExecutorByte);
    return ::fcntl(lock->get(), F_OFD_GETLK, &held) == 0 && held.l_type != F_UNLCK;
}

Status wait_until_unlocked(const VcPaths& paths) {
    PPDSM_ASSIGN(const OwnedFd lock, open_file(paths.lock(), O_RDWR | O_CREAT, 0600));
    if (lock_byte(lock, F_OFD_SETLKW, F_RDLCK, kWaitersByte)) return {};
    return fail_errno("wait for the executor of " + paths.id());
}

}  // namespace ppdsm
