#include "criu-glue/criu/locate_criu.h"

#include <linux/capability.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <utility>

#include "criu-glue/criu/tool_output.h"
#include "dsm/base/files.h"

namespace ppdsm {

namespace fs = std::filesystem;

namespace {

constexpr std::chrono::milliseconds kQuestionLimit{20'000};
constexpr std::string_view kAnswerFile = "criu-found";
constexpr std::string_view kAnswerFormat = "ppdsm-criu-found 1";
constexpr std::uint64_t kSmallFileLimitBytes = 64 << 10;
constexpr std::string_view kHowToInstall =
    "run ci/install-criu.sh of the source tree, or set PPDSM_CRIU to the path of CRIU 4.1 or newer";

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
}

std::optional<struct stat> status_of(const fs::path& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) return std::nullopt;
    return status;
}

bool is_executable(const fs::path& path) {
    const auto status = status_of(path);
    return status && S_ISREG(status->st_mode) && ::access(path.c_str(), X_OK) == 0;
}

/// Root must not run what another user put into a home directory that the environment names.
bool owner_is_trusted(const fs::path& path) {
    const auto status = status_of(path);
    return status && (status->st_uid == 0 || status->st_uid == ::geteuid()) &&
           (status->st_mode & S_IWOTH) == 0;
}

fs::path user_prefix() {
    if (const fs::path data = environment("XDG_DATA_HOME"); data.is_absolute()) {
        return data / "ppdsm" / "criu";
    }
    fs::path home = environment("HOME");
    if (!home.is_absolute()) {
        const passwd* user = ::getpwuid(::geteuid());
        if (user == nullptr) return {};
        home = user->pw_dir;
    }
    return home / ".local" / "share" / "ppdsm" / "criu";
}

/// The CRIUs that exist, in the order of preference.
std::vector<fs::path> candidates() {
    std::vector<fs::path> found;
    const auto consider = [&found](const fs::path& path) {
        if (!path.is_absolute() || !is_executable(path)) return;
        if (std::find(found.begin(), found.end(), path) == found.end()) found.push_back(path);
    };
    consider("/opt/ppdsm-criu/criu");
    if (const fs::path own = user_prefix() / "criu";
        owner_is_trusted(own) && owner_is_trusted(own.parent_path())) {
        consider(own);
    }
    const std::string path_variable = environment("PATH") + ":/usr/local/sbin:/usr/sbin";
    for (std::size_t begin = 0; begin <= path_variable.size();) {
        const std::size_t end = std::min(path_variable.find(':', begin), path_variable.size());
        consider(fs::path(path_variable.substr(begin, end - begin)) / "criu");
        begin = end + 1;
    }
    return found;
}

std::string effective_capabilities() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
    if (::syscall(SYS_capget, &header, data) != 0) return "unknown";
    return std::to_string(data[0].effective) + "/" + std::to_string(data[1].effective);
}

void append_file_identity(std::string& key, const fs::path& path) {
    key += " " + path.string();
    if (const auto status = status_of(path)) {
        key += ":" + std::to_string(status->st_ino) + ":" + std::to_string(status->st_size) + ":" +
               std::to_string(status->st_mtim.tv_sec) + "." +
               std::to_string(status->st_mtim.tv_nsec);
    }
}

/// One line that changes whenever the answer might.
std::string answer_key(const std::vector<fs::path>& paths) {
    utsname kernel{};
    ::uname(&kernel);
    std::string key = std::string(kernel.release) + " " + kernel.version + " uid " +
                      std::to_string(::geteuid()) + " capabilities " + effective_capabilities();
    for (const fs::path& path : paths) {
        append_file_identity(key, path);
        append_file_identity(key, path.parent_path() / "command");
    }
    // A path may hold a newline; the answer file is read by lines.
    std::replace(key.begin(), key.end(), '\n', ' ');
    return key;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::size_t begin = 0;
    while (begin < text.size()) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        lines.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return lines;
}

/// Lines: format, key, path, version text, "unprivileged" or "privileged", then the command.
std::optional<CriuInstallation> kept_answer(const fs::path& state_dir, const std::string& key) {
    const Result<std::string> text = read_text(state_dir / kAnswerFile, kSmallFileLimitBytes);
    if (!text || text->empty() || text->back() != '\n') return std::nullopt;
    std::vector<std::string> lines = lines_of(*text);
    if (lines.size() < 6 || lines[0] != kAnswerFormat || lines[1] != key) return std::nullopt;
    const Result<CriuVersion> version = parse_criu_version("Version: " + lines[3]);
    if (!version) return std::nullopt;
    CriuInstallation answer;
    answer.path = lines[2];
    answer.version = version->number;
    answer.version_text = version->text;
    answer.unprivileged = lines[4] == "unprivileged";
    answer.command.assign(lines.begin() + 5, lines.end());
    return answer;
}

/// Failing to keep the answer costs time at the next start and nothing else: not an error.
void keep_answer(const fs::path& state_dir, const std::string& key,
                 const CriuInstallation& answer) {
    std::string text = std::string(kAnswerFormat) + "\n" + key + "\n" + answer.path.string() +
                       "\n" + answer.version_text + "\n" +
                       (answer.unprivileged ? "unprivileged" : "privileged") + "\n";
    for (const std::string& word : answer.command) text += word + "\n";
    const auto line_breaks = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    if (line_breaks != 5 + answer.command.size()) return;  // A path holds a newline.
    if (!make_directories(state_dir)) return;
    (void)replace_file(state_dir / kAnswerFile, as_bytes(text), 0644);
}

/// The last line that says something: where CRIU puts its reason.
std::string last_error_line(const std::string& output) {
    const std::vector<std::string> lines = lines_of(output);
    for (const bool any : {false, true}) {
        for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
            if (line->starts_with("Error") || (any && !line->empty())) return *line;
        }
    }
    return "no reason given";
}

struct Check {
    bool passed = false;
    std::string reason;
};

Check run_check(const std::vector<std::string>& command) {
    const Result<ToolOutput> said = run_tool(command, kQuestionLimit);
    if (!said) return {false, said.error().message()};
    if (said->exit_code == 0) return {true, ""};
    return {false, "`criu check` fails: " + last_error_line(said->output)};
}

Check check_privileged(const std::vector<std::string>& criu) {
    std::vector<std::string> command = criu;
    command.emplace_back("check");
    return run_check(command);
}

/// As an ordinary user CRIU works in namespaces of our own, where loopback has to be up since it
/// tries TCP's repair mode.
Check check_in_namespaces(const std::vector<std::string>& criu) {
    std::vector<std::string> command = {
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--net",
        "--ipc",
        "sh",
        "-c",
        "PATH=$PATH:/usr/sbin:/sbin ip link set lo up && exec \"$@\"",
        "sh"};
    command.insert(command.end(), criu.begin(), criu.end());
    command.insert(command.end(), {"check", "--unprivileged"});
    return run_check(command);
}

Result<CriuInstallation> examine(const fs::path& path) {
    CriuInstallation found;
    found.path = path;
    found.command = criu_command(path);
    std::vector<std::string> ask_version = found.command;
    ask_version.emplace_back("--version");
    PPDSM_ASSIGN(const ToolOutput said, run_tool(ask_version, kQuestionLimit));
    if (said.exit_code != 0) {
        return fail(Code::kUnsupported, "does not start: " + last_error_line(said.output));
    }
    PPDSM_ASSIGN(CriuVersion version, parse_criu_version(said.output));
    found.version = version.number;
    found.version_text = std::move(version.text);

    Check check = ::geteuid() == 0 ? check_privileged(found.command) : Check{};
    if (!check.passed) {
        // Root of a container may lack what `criu check` wants, and still own namespaces.
        Check inside = check_in_namespaces(found.command);
        found.unprivileged = inside.passed;
        if (::geteuid() != 0 || inside.passed) check = std::move(inside);
    }
    if (!check.passed) return fail(Code::kUnsupported, found.version_text + ": " + check.reason);
    return found;
}

Result<std::vector<fs::path>> candidates_or_demanded() {
    const fs::path demanded = environment("PPDSM_CRIU");
    if (demanded.empty()) return candidates();
    if (!demanded.is_absolute() || !is_executable(demanded)) {
        return fail(Code::kNotFound, "PPDSM_CRIU=" + demanded.string() +
                                         ": not the absolute path of an executable file");
    }
    return std::vector<fs::path>{demanded};
}

}  // namespace

Result<CriuVersion> parse_criu_version(std::string_view output) {
    constexpr std::string_view kLabel = "Version: ";
    const std::size_t label = output.find(kLabel);
    if (label == std::string_view::npos) {
        return fail(Code::kInvalid, "no version in what `criu --version` printed");
    }
    std::string_view text = output.substr(label + kLabel.size());
    text = text.substr(0, text.find_first_of(" \t\r\n"));
    CriuVersion version;
    version.text = text;
    int weight = 10'000;  // Major, minor, sublevel: two decimal digits each.
    const char* at = text.data();
    const char* const end = text.data() + text.size();
    for (; weight > 0; weight /= 100) {
        int part = 0;
        const auto [after, problem] = std::from_chars(at, end, part);
        if (problem != std::errc() || part < 0 || part > 99) break;
        version.number += part * weight;
        at = after;
        if (at == end || *at != '.') break;
        ++at;
    }
    if (version.number == 0) {
        return fail(Code::kInvalid, "\"" + version.text + "\" is no version of CRIU");
    }
    return version;
}

std::vector<std::string> criu_command(const fs::path& path) {
    const Result<std::string> text =
        read_text(path.parent_path() / "command", kSmallFileLimitBytes);
    if (text) {
        std::vector<std::string> command = lines_of(*text);
        // A directory of programs may hold a "command" of another kind.
        if (command.size() >= 2 && is_executable(command.front()) &&
            fs::path(command.front()).is_absolute() &&
            fs::path(command.back()).filename() == "criu" && is_executable(command.back())) {
            return command;
        }
    }
    return {path.string()};
}

Result<CriuInstallation> locate_criu(const fs::path& state_dir) {
    PPDSM_ASSIGN(const std::vector<fs::path> paths, candidates_or_demanded());
    if (paths.empty()) {
        return fail(Code::kNotFound, "no CRIU found: " + std::string(kHowToInstall));
    }
    const std::string key = answer_key(paths);
    if (!state_dir.empty()) {
        if (std::optional<CriuInstallation> kept = kept_answer(state_dir, key)) {
            return *std::move(kept);
        }
    }
    std::string reasons;
    for (const fs::path& path : paths) {
        Result<CriuInstallation> found = examine(path);
        if (found) {
            if (!state_dir.empty()) keep_answer(state_dir, key, *found);
            return found;
        }
        reasons += path.string() + ": " + found.error().message() + "; ";
    }
    return fail(Code::kUnsupported, "no CRIU works here: " + reasons + std::string(kHowToInstall));
}

}  // namespace ppdsm
