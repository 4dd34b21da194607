// A run that is carried out in another process of this machine, reached through a local socket; see
// run_server.h for what passes.
#pragma once

#include <map>
#include <optional>

#include "runtime/peer/home.h"
#include "runtime/peer/local/local_socket.h"
#include "runtime/peer/run.h"

namespace ppdsm {

class RunClient final : public Run {
public:
    struct Callbacks {
        std::function<void(const nlohmann::json& head, LocalMessage message)> on_other;
        std::function<void()> on_closed;
    };
    /// `paths`: the VC's directory, whose logs are read, never written, here.
    static Result<std::unique_ptr<RunClient>> open(Loop& loop, const VcPaths& paths,
                                                   VcRecord record, OwnedFd socket,
                                                   Callbacks callbacks);
    ~RunClient() override;
    RunClient(const RunClient&) = delete;
    RunClient& operator=(const RunClient&) = delete;

    [[nodiscard]] LocalSocket& socket() { return socket_; }

    void give_input(ByteView data) override;
    void end_input() override;
    [[nodiscard]] bool wants_input() const override;
    void hang_up(Stream stream) override;
    void hold_output(bool reader_is_behind) override;
    void resize_terminal(unsigned short rows, unsigned short columns) override;
    void forward_signal(int signal) override;
    void kill(std::string reason) override;
    void checkpoint(CheckpointDone done) override;

    [[nodiscard]] const VcRecord& record() const override { return record_; }
    [[nodiscard]] const InputJournal& input() const override { return input_; }
    [[nodiscard]] const OutputLog& output() const override { return output_; }
    [[nodiscard]] const RunStatistics& statistics() const override { return statistics_; }
    /// Empty: who carries it out says it to those that ask there.
    [[nodiscard]] nlohmann::json status() const override;

private:
    RunClient(Loop& loop, VcRecord record, OutputLog output, InputJournal input,
              std::string refusals, OwnedFd socket, Callbacks callbacks);
    void on_message(const nlohmann::json& head, LocalMessage message);
    void on_answer(const nlohmann::json& head);
    bool on_progress(const std::string& event, const nlohmann::json& head);

    VcRecord record_;
    OutputLog output_;
    InputJournal input_;
    std::string refusals_log_;
    RunStatistics statistics_;
    std::uint64_t input_in_flight_bytes_ = 0;
    bool started_ = false;
    bool input_ended_ = false;
    using Answered = std::function<void(const Result<nlohmann::json>&)>;
    std::map<std::uint64_t, Answered> asked_;
    std::uint64_t next_token_ = 1;
    Callbacks callbacks_;
    LocalSocket socket_;
};

}  // namespace ppdsm
