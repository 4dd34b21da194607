#include "cli/mesh_exec.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/event_file.h"
#include "cli/front_end.h"
#include "runtime/peer/local/run_client.h"
#include "runtime/peer/mesh/daemon.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

Result<int> watch(const VcPaths& paths, OwnedFd socket, const WatchOptions& options) {
    PPDSM_ASSIGN(VcRecord record, read_record(paths));
    Loop loop;
    bool is_lost = false;
    FrontEnd* shown = nullptr;
    const auto on_closed = [&] {
        // Of a run that has ended all is said; its output may still be on its way to the reader.
        if (shown->has_finished()) return;
        is_lost = true;
        shown->leave();
    };
    PPDSM_ASSIGN(const std::unique_ptr<RunClient> run,
                 RunClient::open(loop, paths, std::move(record), std::move(socket),
                                 {.on_other = {}, .on_closed = on_closed}));
    FrontEnd front_end(loop, *run, paths, true, options.statistics);
    shown = &front_end;
    run->add_observer(front_end);
    std::unique_ptr<EventFile> events;
    if (!options.events.empty()) {
        PPDSM_ASSIGN(events, EventFile::open(options.events, paths.id()));
        run->add_observer(*events);
    }
    front_end.allow_leaving();
    PPDSM_TRY(front_end.continue_input());
    front_end.start();
    loop.run();
    if (is_lost) {
        return fail(Code::kUnavailable,
                    fmt::format("the daemon is gone; {} goes on when it is back (`ppdsm peer "
                                "start`), and `ppdsm attach {}` shows it",
                                paths.id(), paths.id()));
    }
    return front_end.exit_code();
}

}  // namespace

bool is_daemon_there(const Home& home) {
    return connect_to(daemon_socket(home.directory())).has_value();
}

Result<int> exec_on_mesh(const Home& home, const VcRecord& record, const WatchOptions& options) {
    PPDSM_ASSIGN(OwnedFd socket, connect_to(daemon_socket(home.directory())));
    const Result<Json> answer = exchange(
        socket, {{"do", "exec"}, {"record", encode_record(record)}, {"detach", options.detach}});
    if (!answer) {
        return fail(answer.error().within(
            "the daemon is gone, and may have taken the program: if so, `ppdsm ps` shows it, and "
            "it goes on when the daemon is back (`ppdsm peer start`)"));
    }
    if (answer->contains("error")) return fail(error_from_json((*answer)["error"]));
    const std::string vc = answer->value("vc", "");
    if (options.detach) {
        fmt::print("{}\n", vc);
        return 0;
    }
    PPDSM_ASSIGN(const VcPaths paths, home.find(vc));
    return watch(paths, std::move(socket), options);
}

Result<int> attach_to_mesh(const Home& home, const VcPaths& paths, const WatchOptions& options) {
    PPDSM_ASSIGN(OwnedFd socket, connect_to(daemon_socket(home.directory())));
    PPDSM_TRY(ask_through(socket, {{"do", "attach"}, {"vc", paths.id()}}));
    return watch(paths, std::move(socket), options);
}

}  // namespace ppdsm
