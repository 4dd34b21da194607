#include "cli/event_file.h"

#include <fcntl.h>

#include <nlohmann/json.hpp>

#include "dsm/base/wall_clock.h"
#include "runtime/peer/control.h"

namespace ppdsm {

using Json = nlohmann::json;

Result<std::unique_ptr<EventFile>> EventFile::open(const std::filesystem::path& path,
                                                   const std::string& vc_id) {
    PPDSM_ASSIGN(OwnedFd fd, open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0644));
    return std::unique_ptr<EventFile>(new EventFile(std::move(fd), vc_id));
}

void EventFile::write(const char* event, Json details) {
    details["event"] = event;
    details["vc"] = vc_id_;
    details["unix_ms"] = unix_now_ms();
    // One write: a reader never sees half a line. A full disk costs events, not the run.
    (void)write_all(fd_,
                    as_bytes(details.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"));
}

void EventFile::on_started(pid_t program) { write("started", {{"pid", program}}); }
void EventFile::on_committed(const GenerationRecord& record) {
    write("checkpoint_committed", to_json(record));
}
void EventFile::on_checkpoint_failed(const Error& reason, bool protected_now) {
    const bool unsupported = reason.code() == Code::kUnsupported && !protected_now;
    write(unsupported ? "unprotected" : "checkpoint_failed", {{"reason", reason.message()}});
}
void EventFile::on_died(const std::string& cause) { write("died", {{"cause", cause}}); }
void EventFile::on_restored(std::uint64_t generation) {
    write("restored", {{"generation", generation}});
}
void EventFile::on_notice(const std::string& text) { write("notice", {{"text", text}}); }
void EventFile::on_finished(const Outcome& outcome) {
    write("finished", {{"exit", outcome.exit_code},
                       {"failure", outcome.failure},
                       {"not_exposed", outcome.refusals.not_exposed},
                       {"refused_writes", outcome.refusals.writes},
                       {"more_refusals", outcome.refusals.more}});
}

}  // namespace ppdsm
