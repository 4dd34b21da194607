// A run's control socket: how other `ppdsm` commands ask it things. One JSON object a request
// and one an answer, over SOCK_SEQPACKET at <VC>/control. Only the owner can reach it (directory
// mode 0700).
//   {"do":"status"}                ->
//   {"state","generation","pids":[..],"root_pid","init_pid","executor_pid",...}
//   {"do":"kill","signal":N}       -> {}
//   {"do":"checkpoint"}            -> {"generation","pause_ms",...} when it has committed
// An answer with "error" says why not.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "dsm/io/loop.h"
#include "runtime/peer/home.h"
#include "runtime/peer/run.h"

namespace ppdsm {

class ControlServer {
public:
    static Result<std::unique_ptr<ControlServer>> listen(Loop& loop, Run& run,
                                                         const VcPaths& paths);
    ~ControlServer();

private:
    struct Client {
        OwnedFd fd;
        std::unique_ptr<Poller> poller;
    };
    ControlServer(Loop& loop, Run& run, VcPaths paths, OwnedFd listener);
    void accept_client();
    void on_request(std::uint64_t client);
    void handle(std::uint64_t client, const nlohmann::json& request);
    void answer(std::uint64_t client, const nlohmann::json& reply);

    Loop& loop_;
    Run& run_;
    VcPaths paths_;
    OwnedFd listener_;
    std::unique_ptr<Poller> poller_;
    std::map<std::uint64_t, Client> clients_;
    std::uint64_t next_client_ = 1;
};

/// Asks the executor of a VC; blocks. kUnavailable: none runs it.
Result<nlohmann::json> ask_executor(const VcPaths& paths, const nlohmann::json& request);

nlohmann::json to_json(const GenerationRecord& record);

}  // namespace ppdsm
