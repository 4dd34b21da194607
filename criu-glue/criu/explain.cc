#include "criu-glue/criu/explain.h"

#include <array>
#include <regex>
#include <sstream>
#include <vector>

namespace ppdsm {

namespace {

struct Explanation {
    const char* pattern;  ///< Of one line of CRIU's log, ECMAScript.
    const char* meaning;  ///< $1, $2: the pattern's groups.
};

// Patterns are CRIU 3.17 to 4.2's messages.
constexpr std::array kExplanations = {
    Explanation{R"(Error \(ppdsm\): (.+))", "$1"},  // The warden's own, above CRIU's log.
    Explanation{
        R"(Can't dump file (\d+) of that type \[\S+\] \(unknown /?(anon_inode:)?\[?([^\])]+)\]?)",
        "fd $1: $3 cannot be checkpointed; if the program has an option to do without it, use it"},
    Explanation{R"(anon_inode:\[?(io_uring|userfaultfd|perf_event|kvm\S*|bpf\S*)\]?)",
                "the program uses $1, which cannot be checkpointed"},
    Explanation{R"(Can't lookup mount=\S+ for fd=(\S+) path=(\S+))",
                "fd $1: $2 was opened outside the sandbox"},
    Explanation{R"(Can't open mapped \[(.+) \(deleted\)\])",
                "the deleted file $1 is mapped; only root can checkpoint that"},
    Explanation{R"(Can't open mapped \[(\S+)\])",
                "the mapped file $1 cannot be opened again; only root can checkpoint that"},
    Explanation{
        R"(suspending seccomp failed)",
        "the program filters its own system calls (seccomp); only root can checkpoint that"},
    Explanation{R"(Can't dump ghost file (\S+) of (\d+) size)",
                "the deleted file $1 of $2 bytes is still open and too large"},
    Explanation{R"(External socket is used|unix: .*external)",
                "a unix socket is connected to a process outside the sandbox"},
    Explanation{R"(Can't dump nested pid namespace)",
                "the program made a pid namespace of its own"},
    Explanation{R"(Found.*nested.*user)", "the program made a user namespace of its own"},
    Explanation{R"((\d+) is already being traced|PTRACE_SEIZE.*(\d+).*: Operation not permitted)",
                "process $1 is being traced by a debugger"},
    Explanation{R"(Error: socket: Can't dump|Unknown protocol|unsupported .*socket)",
                "a socket of a kind that cannot be checkpointed"},
    Explanation{R"(Can't dump .*(/dev/\S+))",
                "the device $1 is open; a device's state cannot be saved"},
};

/// "Error (criu/files.c:12): files: text" without its origin.
std::string strip_origin(const std::string& line) {
    const std::size_t error = line.find("Error (");
    const std::size_t colon = line.find("): ", error);
    return colon == std::string::npos ? line : line.substr(colon + 3);
}

}  // namespace

Error explain_criu_failure(const Error& error) {
    std::istringstream lines(error.what());
    std::string first;
    std::getline(lines, first);
    std::string cause;
    for (std::string line; std::getline(lines, line);) {
        if (line.find("Error (") == std::string::npos ||
            line.find("RLIMIT_NOFILE") != std::string::npos)
            continue;
        for (const Explanation& explanation : kExplanations) {
            std::smatch match;
            if (!std::regex_search(line, match, std::regex(explanation.pattern))) continue;
            return {error.code(), error.errno_value(), match.format(explanation.meaning)};
        }
        if (cause.empty()) cause = strip_origin(line);
    }
    const Code code = error.code() == Code::kUnsupported ? Code::kUnavailable : error.code();
    if (cause.empty()) return {code, error.errno_value(), first};
    return {code, error.errno_value(), "CRIU: " + cause};
}

}  // namespace ppdsm
