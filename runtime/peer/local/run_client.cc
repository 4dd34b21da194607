#include "runtime/peer/local/run_client.h"

#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "runtime/peer/local/run_server.h"

namespace ppdsm {

using Json = nlohmann::json;

Result<std::unique_ptr<RunClient>> RunClient::open(Loop& loop, const VcPaths& paths,
                                                   VcRecord record, OwnedFd socket,
                                                   Callbacks callbacks) {
    PPDSM_ASSIGN(OutputLog output, OutputLog::open(paths.output(), true));
    PPDSM_ASSIGN(InputJournal input, InputJournal::read(paths.input()));
    return std::unique_ptr<RunClient>(new RunClient(loop, std::move(record), std::move(output),
                                                    std::move(input), paths.refusals(),
                                                    std::move(socket), std::move(callbacks)));
}

RunClient::RunClient(Loop& loop, VcRecord record, OutputLog output, InputJournal input,
                     std::string refusals, OwnedFd socket, Callbacks callbacks)
    : record_(std::move(record)),
      output_(std::move(output)),
      input_(std::move(input)),
      refusals_log_(std::move(refusals)),
      callbacks_(std::move(callbacks)),
      socket_(loop, std::move(socket)) {
    socket_.listen(
        {[this](const Json& head, LocalMessage message) { on_message(head, std::move(message)); },
         [this] {
             for (auto& [token, answered] : std::exchange(asked_, {})) {
                 answered(fail(Code::kUnavailable, "the other side is gone"));
             }
             const auto closed = callbacks_.on_closed;  // It may destroy us.
             if (closed) closed();
         }});
}

RunClient::~RunClient() = default;

void RunClient::give_input(ByteView data) {
    while (!data.empty()) {
        const ByteView piece = data.first(std::min(data.size(), kMaxLocalDataBytes));
        socket_.send({{"do", "input"}}, Bytes(piece.begin(), piece.end()));
        input_in_flight_bytes_ += piece.size();
        data = data.subspan(piece.size());
    }
}

void RunClient::end_input() {
    if (std::exchange(input_ended_, true)) return;
    socket_.send({{"do", "end-input"}});
}

bool RunClient::wants_input() const {
    return started_ && !input_ended_ && !input_.ended() &&
           input_in_flight_bytes_ < kInputWindowBytes;
}

void RunClient::hang_up(Stream stream) {
    socket_.send({{"do", "hang-up"}, {"stream", static_cast<int>(stream)}});
}
void RunClient::hold_output(bool reader_is_behind) {
    socket_.send({{"do", "hold"}, {"held", reader_is_behind}});
}
void RunClient::resize_terminal(unsigned short rows, unsigned short columns) {
    socket_.send({{"do", "resize"}, {"rows", rows}, {"columns", columns}});
}
void RunClient::forward_signal(int signal) { socket_.send({{"do", "signal"}, {"signal", signal}}); }
void RunClient::kill(std::string reason) {
    socket_.send({{"do", "kill"}, {"reason", bytes_to_utf8(reason)}});
}

void RunClient::checkpoint(CheckpointDone done) {
    const std::uint64_t token = next_token_++;
    asked_[token] = [done = std::move(done)](const Result<Json>& answer) {
        if (!answer) return done(fail(answer.error()));
        done(parse_generation(answer->value("record", "")));
    };
    socket_.send({{"do", "checkpoint"}, {"token", token}});
}

Json RunClient::status() const { return Json::object(); }

void RunClient::on_answer(const Json& head) {
    auto node = asked_.extract(head.value("token", std::uint64_t{0}));
    if (node.empty()) return;
    if (head.contains("error")) return node.mapped()(fail(error_from_json(head["error"])));
    node.mapped()(head);
}

/// What a run tells of its checkpoints and deaths; false: something else.
bool RunClient::on_progress(const std::string& event, const Json& head) {
    const auto error = [&] { return error_from_json(head.value("error", Json())); };
    if (event == "committed") {
        const Result<GenerationRecord> record = parse_generation(head.value("record", ""));
        if (!record) return true;
        statistics_.add(*record);
        notify([&](RunObserver& o) { o.on_committed(*record); });
    } else if (event == "checkpoint-failed") {
        notify([&](RunObserver& o) {
            o.on_checkpoint_failed(error(), head.value("protected", false));
        });
    } else if (event == "died") {
        notify([&](RunObserver& o) { o.on_died(utf8_to_bytes(head.value("cause", ""))); });
    } else if (event == "restored") {
        ++statistics_.restores;
        notify([&](RunObserver& o) { o.on_restored(head.value("generation", std::uint64_t{0})); });
    } else if (event == "files-not-written") {
        notify([&](RunObserver& o) { o.on_files_not_written(error()); });
    } else if (event == "stalled") {
        notify([&](RunObserver& o) { o.on_output_stalled(error()); });
    } else {
        return false;
    }
    return true;
}

void RunClient::on_message(const Json& head, LocalMessage message) {
    const std::string event = head.value("event", "");
    if (event == "answer") return on_answer(head);
    if (on_progress(event, head)) return;
    if (event == "input-taken") {
        input_in_flight_bytes_ -=
            std::min(input_in_flight_bytes_, head.value("bytes", std::uint64_t{0}));
    } else if (event == "started") {
        started_ = true;
        notify([&](RunObserver& o) { o.on_started(head.value("pid", 0)); });
    } else if (event == "released") {
        notify([&](RunObserver& o) { o.on_released(head.value("bytes", std::uint64_t{0})); });
    } else if (event == "thread-released") {
        const ThreadRelease release{head.value("vc", ""), head.value("bytes", std::uint64_t{0}),
                                    head.value("ended", false)};
        if (!is_vc_id(release.vc)) return;
        notify([&](RunObserver& o) { o.on_thread_released(release); });
    } else if (event == "preview") {
        const Stream stream = head.value("stream", 1) == 2 ? Stream::kStderr : Stream::kStdout;
        notify([&](RunObserver& o) { o.on_preview(stream, message.data); });
    } else if (event == "notice") {
        notify([&](RunObserver& o) { o.on_notice(utf8_to_bytes(head.value("text", ""))); });
    } else if (event == "finished") {
        Outcome outcome = outcome_from_json(head);
        outcome.refusals = read_refusals(refusals_log_);
        notify([&](RunObserver& o) { o.on_finished(outcome); });
    } else if (callbacks_.on_other) {
        callbacks_.on_other(head, std::move(message));
    }
}

}  // namespace ppdsm
