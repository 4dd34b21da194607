#include "criu-glue/sandbox/unseen_state.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <map>
#include <sstream>
#include <system_error>

#include "dsm/base/files.h"

namespace ppdsm {

namespace {

constexpr std::string_view kSharedMemory = "/dev/zero (deleted)";
constexpr std::string_view kSharedHugePages = "/anon_hugepage (deleted)";
constexpr std::string_view kOwnOfCriu = "/memfd:CRIUMFD";

/// A line of /proc/PID/maps.
struct MapsLine {
    std::uint64_t start = 0, end = 0, offset = 0, inode = 0;
    bool is_shared = false;
    std::string name;
};

/// A piece of anonymous shared memory, as far as one process has been seen to map it.
struct SharedPiece {
    std::uint64_t start = 0, size = 0;
};
using SharedPieces = std::map<std::uint64_t, SharedPiece>;  // By inode.

bool parse_line(const std::string& text, MapsLine& line) {
    std::istringstream fields(text);
    char dash = 0;
    std::string protection, device;
    fields >> std::hex >> line.start >> dash >> line.end >> protection >> line.offset >> device >>
        std::dec >> line.inode >> std::ws;
    if (fields.fail() && !fields.eof()) return false;
    std::getline(fields, line.name);
    line.is_shared = protection.size() == 4 && protection[3] == 's';
    return dash == '-';
}

/// CRIU reads as much as is mapped of it anywhere, from where the first mapping begins.
bool extends(const MapsLine& line, SharedPieces& pieces) {
    SharedPiece& piece = pieces[line.inode];
    if (piece.size == 0) piece.start = line.start;
    if (line.offset != piece.size || line.start != piece.start + piece.size) return false;
    piece.size += line.end - line.start;
    return true;
}

Status examine_line(const MapsLine& line, SharedPieces& pieces) {
    const std::string_view name = line.name;
    const auto lost = [&](const std::string& what) {
        return fail(Code::kUnsupported, what + "; only root can checkpoint that");
    };
    if (name.empty() || name.front() == '[' || name.starts_with(kOwnOfCriu)) return {};
    if (name.starts_with("/memfd:")) return lost("the program maps a memory file (memfd_create)");
    if (name.starts_with("/SYSV")) return lost("the program maps System V shared memory");
    if (name.front() != '/') return lost("the program maps " + line.name);
    const bool is_memory = name == kSharedMemory || name == kSharedHugePages;
    if (is_memory && line.is_shared && !extends(line, pieces)) {
        return lost("the program maps shared memory in part");
    }
    return {};
}

Status examine_process(const std::string& maps, SharedPieces& everywhere) {
    const Result<std::string> text = read_text(maps);
    if (!text && text.error().errno_value() == ESRCH) return {};  // A zombie maps nothing.
    if (!text) return fail(text.error());
    SharedPieces pieces;
    std::istringstream lines(*text);
    for (std::string each; std::getline(lines, each);) {
        MapsLine line;
        if (!parse_line(each, line)) return fail(Code::kInvalid, maps + ": " + each);
        PPDSM_TRY(examine_line(line, pieces));
    }
    for (const auto& [inode, piece] : pieces) {
        SharedPiece& known = everywhere.try_emplace(inode, piece).first->second;
        if (known.size == piece.size) continue;
        return fail(Code::kUnsupported,
                    "two processes map different parts of shared memory; only root can checkpoint "
                    "that");
    }
    return {};
}

/// Each of /proc/sysvipc's tables has a line of titles, then one an object.
Status examine_system_v(const std::string& proc) {
    for (const char* kind : {"msg", "sem", "shm"}) {
        const Result<std::string> table = read_text(proc + "/sysvipc/" + kind);
        if (!table || std::count(table->begin(), table->end(), '\n') <= 1) continue;
        return fail(Code::kUnsupported, std::string("the program uses System V ") +
                                            (*kind == 'm'     ? "message queues"
                                             : kind[1] == 'e' ? "semaphores"
                                                              : "shared memory") +
                                            "; only root can checkpoint that");
    }
    return {};
}

}  // namespace

Status find_unseen_state(const std::string& proc) {
    PPDSM_TRY(examine_system_v(proc));
    SharedPieces everywhere;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(proc, error)) {
        const std::string name = entry.path().filename();
        if (std::isdigit(static_cast<unsigned char>(name.front())) == 0) continue;
        PPDSM_TRY(examine_process(entry.path() / "maps", everywhere));
    }
    if (error) return fail(Code::kIo, "read " + proc + ": " + error.message());
    return {};
}

}  // namespace ppdsm
