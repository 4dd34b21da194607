// A run offered over a local socket: what comes in is asked of the run, what the run tells goes
// out. The other end is a RunClient. Also the grammar of what passes between them:
//   -> {"do":"input"} + bytes   {"do":"end-input"}   {"do":"signal","signal"}
//   {"do":"kill","reason"}
//      {"do":"hang-up","stream"} {"do":"hold","held"} {"do":"resize","rows","columns"}
//      {"do":"checkpoint","token"}  {"do":"status","token"}
//   <- {"event":"input-taken","bytes"}  {"event":"answer","token",...} or {...,"error"}
//      {"event":"started","pid"} {"event":"committed","record"} {"event":"checkpoint-failed",...}
//      {"event":"died","cause"} {"event":"restored","generation"} {"event":"files-not-written"}
//      {"event":"stalled"} {"event":"released","bytes"} {"event":"preview","stream"} + bytes
//      {"event":"thread-released","vc","bytes","ended"}
//      {"event":"notice","text"} {"event":"finished",...}
// Anything else is given to whoever made the server.
#pragma once

#include <deque>

#include "runtime/peer/local/local_socket.h"
#include "runtime/peer/run.h"

namespace ppdsm {

/// Input that a client may send before it is taken.
inline constexpr std::uint64_t kInputWindowBytes = std::uint64_t{1} << 20;

class RunServer final : public RunObserver {
public:
    struct Callbacks {
        std::function<void(const nlohmann::json& head, LocalMessage message)> on_other;
        std::function<void()> on_closed;
    };
    /// `previews`: the other side wants output before it is released.
    RunServer(Loop& loop, Run& run, std::unique_ptr<LocalSocket> socket, bool previews,
              Callbacks callbacks);
    ~RunServer() override;
    RunServer(const RunServer&) = delete;
    RunServer& operator=(const RunServer&) = delete;

    [[nodiscard]] LocalSocket& socket() { return *socket_; }

    void on_started(pid_t program) override;
    void on_committed(const GenerationRecord& record) override;
    void on_checkpoint_failed(const Error& reason, bool protected_now) override;
    void on_died(const std::string& cause) override;
    void on_restored(std::uint64_t generation) override;
    void on_files_not_written(const Error& reason) override;
    void on_output_stalled(const Error& reason) override;
    void on_released(std::uint64_t output_bytes) override;
    void on_thread_released(const ThreadRelease& release) override;
    void on_preview(Stream stream, ByteView data) override;
    void on_finished(const Outcome& outcome) override;
    void on_notice(const std::string& text) override;

private:
    void on_message(const nlohmann::json& head, LocalMessage message);
    void give_input();

    Run& run_;
    bool previews_;
    Callbacks callbacks_;
    std::unique_ptr<LocalSocket> socket_;
    std::deque<Bytes> input_;  ///< Not taken by the run yet.
    bool input_ends_ = false;
    Timer input_timer_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

nlohmann::json outcome_to_json(const Outcome& outcome);
Outcome outcome_from_json(const nlohmann::json& json);

}  // namespace ppdsm
