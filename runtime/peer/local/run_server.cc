#include "runtime/peer/local/run_server.h"

#include <signal.h>

#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::uint64_t kInputRetryMs = 5;

Json texts(const std::vector<std::string>& list) {
    Json json = Json::array();
    for (const std::string& text : list) json.push_back(bytes_to_utf8(text));
    return json;
}

std::vector<std::string> texts_from(const Json& json) {
    std::vector<std::string> list;
    for (const Json& text : json) list.push_back(utf8_to_bytes(text.get<std::string>()));
    return list;
}

}  // namespace

Json outcome_to_json(const Outcome& outcome) {
    Json conflicts = Json::array();
    for (const auto& [kept, ours] : outcome.files.conflicts) {
        conflicts.push_back({bytes_to_utf8(kept), bytes_to_utf8(ours)});
    }
    Json json = {{"exit", outcome.exit_code},
                 {"failure", bytes_to_utf8(outcome.failure)},
                 {"written", texts(outcome.files.written)},
                 {"removed", texts(outcome.files.removed)},
                 {"conflicts", conflicts},
                 {"skipped", texts(outcome.files.skipped)}};
    if (outcome.failure_code) json["failure_code"] = static_cast<int>(*outcome.failure_code);
    return json;
}

Outcome outcome_from_json(const Json& json) {
    Outcome outcome;
    outcome.exit_code = json.value("exit", 125);
    outcome.failure = utf8_to_bytes(json.value("failure", ""));
    if (json.contains("failure_code")) {
        outcome.failure_code = static_cast<Code>(json["failure_code"].get<int>());
    }
    outcome.files.written = texts_from(json.value("written", Json::array()));
    outcome.files.removed = texts_from(json.value("removed", Json::array()));
    outcome.files.skipped = texts_from(json.value("skipped", Json::array()));
    for (const Json& pair : json.value("conflicts", Json::array())) {
        outcome.files.conflicts.emplace_back(utf8_to_bytes(pair.at(0).get<std::string>()),
                                             utf8_to_bytes(pair.at(1).get<std::string>()));
    }
    return outcome;
}

RunServer::RunServer(Loop& loop, Run& run, std::unique_ptr<LocalSocket> socket, bool previews,
                     Callbacks callbacks)
    : run_(run),
      previews_(previews),
      callbacks_(std::move(callbacks)),
      socket_(std::move(socket)),
      input_timer_(loop, [this] { give_input(); }) {
    run_.add_observer(*this);
    socket_->listen(
        {[this](const Json& head, LocalMessage message) { on_message(head, std::move(message)); },
         [this] {
             const auto closed = callbacks_.on_closed;  // It may destroy us.
             if (closed) closed();
         }});
}

RunServer::~RunServer() {
    *alive_ = false;
    run_.remove_observer(*this);
}

void RunServer::on_message(const Json& head, LocalMessage message) {
    const std::string action = head.value("do", "");
    if (action == "input") {
        input_.push_back(std::move(message.data));
        return give_input();
    }
    if (action == "end-input") {
        input_ends_ = true;
        return give_input();
    }
    if (action == "signal") return run_.forward_signal(head.value("signal", SIGTERM));
    if (action == "kill") return run_.kill(utf8_to_bytes(head.value("reason", "killed")));
    if (action == "hang-up") {
        return run_.hang_up(head.value("stream", 1) == 2 ? Stream::kStderr : Stream::kStdout);
    }
    if (action == "hold") return run_.hold_output(head.value("held", false));
    if (action == "resize") {
        return run_.resize_terminal(head.value<unsigned short>("rows", 24),
                                    head.value<unsigned short>("columns", 80));
    }
    const std::uint64_t token = head.value("token", std::uint64_t{0});
    if (action == "status") {
        return socket_->send({{"event", "answer"}, {"token", token}, {"status", run_.status()}});
    }
    if (action == "checkpoint") {
        return run_.checkpoint(
            [this, alive = alive_, token](const Result<GenerationRecord>& result) {
                if (!*alive) return;
                Json answer = {{"event", "answer"}, {"token", token}};
                if (result) {
                    answer["record"] = format_generation(*result);
                } else {
                    answer["error"] = error_to_json(result.error());
                }
                socket_->send(answer);
            });
    }
    if (callbacks_.on_other) callbacks_.on_other(head, std::move(message));
}

/// The window keeps what may wait here small.
void RunServer::give_input() {
    std::uint64_t taken_bytes = 0;
    while (!input_.empty() && run_.wants_input()) {
        taken_bytes += input_.front().size();
        run_.give_input(input_.front());
        input_.pop_front();
    }
    if (taken_bytes > 0) socket_->send({{"event", "input-taken"}, {"bytes", taken_bytes}});
    // The program reads on, or it has not started yet.
    if (!input_.empty()) return input_timer_.start(kInputRetryMs);
    if (std::exchange(input_ends_, false)) run_.end_input();
}

void RunServer::on_started(pid_t program) {
    socket_->send({{"event", "started"}, {"pid", program}});
}
void RunServer::on_committed(const GenerationRecord& record) {
    socket_->send({{"event", "committed"}, {"record", format_generation(record)}});
}
void RunServer::on_checkpoint_failed(const Error& reason, bool protected_now) {
    socket_->send({{"event", "checkpoint-failed"},
                   {"error", error_to_json(reason)},
                   {"protected", protected_now}});
}
void RunServer::on_died(const std::string& cause) {
    socket_->send({{"event", "died"}, {"cause", bytes_to_utf8(cause)}});
}
void RunServer::on_restored(std::uint64_t generation) {
    socket_->send({{"event", "restored"}, {"generation", generation}});
}
void RunServer::on_files_not_written(const Error& reason) {
    socket_->send({{"event", "files-not-written"}, {"error", error_to_json(reason)}});
}
void RunServer::on_output_stalled(const Error& reason) {
    socket_->send({{"event", "stalled"}, {"error", error_to_json(reason)}});
}
void RunServer::on_released(std::uint64_t output_bytes) {
    socket_->send({{"event", "released"}, {"bytes", output_bytes}});
}
void RunServer::on_thread_released(const ThreadRelease& release) {
    socket_->send({{"event", "thread-released"},
                   {"vc", release.vc},
                   {"bytes", release.output_bytes},
                   {"ended", release.has_ended}});
}
void RunServer::on_preview(Stream stream, ByteView data) {
    if (!previews_) return;
    while (!data.empty()) {
        const ByteView piece = data.first(std::min(data.size(), kMaxLocalDataBytes));
        socket_->send({{"event", "preview"}, {"stream", static_cast<int>(stream)}},
                      Bytes(piece.begin(), piece.end()));
        data = data.subspan(piece.size());
    }
}
void RunServer::on_finished(const Outcome& outcome) {
    Json event = outcome_to_json(outcome);
    event["event"] = "finished";
    socket_->send(event);
}
void RunServer::on_notice(const std::string& text) {
    socket_->send({{"event", "notice"}, {"text", bytes_to_utf8(text)}});
}

}  // namespace ppdsm
