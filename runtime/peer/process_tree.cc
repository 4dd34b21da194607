#include "runtime/peer/process_tree.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "criu-glue/sandbox/mount_tree.h"
#include "dsm/base/files.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

namespace {

std::string proc_path(pid_t pid, const char* file) {
    return "/proc/" + std::to_string(pid) + "/" + file;
}

std::vector<pid_t> children_of(pid_t pid) {
    std::vector<pid_t> children;
    std::error_code error;
    for (const auto& task : std::filesystem::directory_iterator(proc_path(pid, "task"), error)) {
        std::ifstream list(task.path() / "children");
        for (pid_t child = 0; list >> child;) children.push_back(child);
    }
    return children;
}

pid_t inner_pid_of(pid_t pid) {
    std::ifstream status(proc_path(pid, "status"));
    for (std::string line; std::getline(status, line);) {
        if (!line.starts_with("NSpid:")) continue;
        return static_cast<pid_t>(std::atoi(line.substr(line.find_last_of("\t ") + 1).c_str()));
    }
    return 0;
}

std::string command_of(pid_t pid) {
    std::string command = read_text(proc_path(pid, "cmdline")).value_or("");
    while (!command.empty() && command.back() == '\0') command.pop_back();
    std::replace(command.begin(), command.end(), '\0', ' ');
    if (!command.empty()) return command;
    std::string name = read_text(proc_path(pid, "comm")).value_or("?");
    if (!name.empty() && name.back() == '\n') name.pop_back();
    return "[" + name + "]";
}

/// Whether the process catches or ignores the signal.
bool handles(pid_t pid, int signal) {
    std::ifstream status(proc_path(pid, "status"));
    std::uint64_t handled = 0;
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("SigIgn:") || line.starts_with("SigCgt:")) {
            handled |= std::strtoull(line.c_str() + line.find_last_of("\t ") + 1, nullptr, 16);
        }
    }
    return (handled >> (signal - 1) & 1) != 0;
}

/// Whether all of the process has ended, though nobody has waited for it yet.
bool is_zombie(pid_t pid) {
    std::ifstream status(proc_path(pid, "status"));
    bool dead = false;
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("State:")) dead = line.find('Z') != std::string::npos;
        // A first thread that has ended leaves the others running.
        if (line.starts_with("Threads:")) return dead && std::atoi(line.c_str() + 8) == 1;
    }
    return false;
}

void collect(pid_t pid, std::vector<HostProcess>& tree) {
    tree.push_back({pid, inner_pid_of(pid), command_of(pid)});
    for (const pid_t child : children_of(pid)) collect(child, tree);
}

}  // namespace

pid_t pid_of(const OwnedFd& pidfd) {
    std::ifstream info("/proc/self/fdinfo/" + std::to_string(pidfd.get()));
    for (std::string line; std::getline(info, line);) {
        if (line.starts_with("Pid:")) return std::max(0, std::atoi(line.c_str() + 4));
    }
    return 0;
}

std::vector<HostProcess> process_tree(pid_t root) {
    std::vector<HostProcess> tree;
    if (root > 0) collect(root, tree);
    return tree;
}

pid_t program_of(pid_t init) {
    constexpr pid_t kFirstChild = 2;  // Init forks the program before anything else.
    for (const pid_t child : children_of(init)) {
        if (inner_pid_of(child) == kFirstChild) return child;
    }
    return 0;
}

bool is_program_lost(pid_t init) {
    if (const pid_t program = program_of(init); program > 0) return is_zombie(program);
    // Init has waited for it; its name tells how it ended (see init.c), unless it has yet to write
    // that.
    const std::string name = read_text(proc_path(init, "comm")).value_or("");
    int status = 0;
    return std::sscanf(name.c_str(), "ppdsm:%d", &status) != 1 || killed_by_sigkill(status);
}

std::uint64_t resident_bytes(pid_t root) {
    std::uint64_t pages = 0;
    for (const HostProcess& process : process_tree(root)) {
        std::ifstream sizes(proc_path(process.pid, "statm"));
        std::uint64_t total = 0;
        std::uint64_t resident = 0;
        if (sizes >> total >> resident) pages += resident;
    }
    return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

double cpu_seconds(pid_t root) {
    double ticks = 0;
    for (const HostProcess& process : process_tree(root)) {
        // The name, which may hold anything, ends at the last bracket; utime is ten fields on.
        const std::string text = read_text(proc_path(process.pid, "stat")).value_or("");
        const std::size_t name_end = text.rfind(')');
        if (name_end == std::string::npos) continue;
        std::istringstream fields(text.substr(name_end + 1));
        std::string skipped;
        for (int i = 0; i < 11; ++i) fields >> skipped;
        for (int i = 0; i < 4; ++i) {
            double field = 0;
            if (fields >> field) ticks += field;
        }
    }
    return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

void signal_group(pid_t leader, int signal) {
    if (signal == SIGTSTP && !handles(leader, signal)) signal = SIGSTOP;
    ::kill(-leader, signal);
}

std::vector<std::string> shared_writable_mappings(pid_t root) {
    const std::string root_prefix = std::string(kTreeRoot) + "/";
    std::vector<std::string> paths;
    std::vector<pid_t> pending = {root};
    while (!pending.empty()) {
        const pid_t pid = pending.back();
        pending.pop_back();
        std::ifstream maps(proc_path(pid, "maps"));
        for (std::string line; std::getline(maps, line);) {
            std::istringstream fields(line);
            std::string range, rights, offset, device, inode, path;
            fields >> range >> rights >> offset >> device >> inode >> std::ws;
            if (rights.size() < 4 || rights[1] != 'w' || rights[3] != 's' || inode == "0") continue;
            std::getline(fields, path);
            // A tree in the warden's mount namespace shows where its root lies.
            if (path.starts_with(root_prefix)) path.erase(0, root_prefix.size() - 1);
            if (path.starts_with('/')) paths.push_back(path);
        }
        for (const pid_t child : children_of(pid)) pending.push_back(child);
    }
    return paths;
}

}  // namespace ppdsm
