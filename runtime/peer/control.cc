#include "runtime/peer/control.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "dsm/base/packet_socket.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::size_t kMaxMessageBytes = 256 << 10;

}  // namespace

Json to_json(const GenerationRecord& record) {
    return {{"generation", record.generation},
            {"pause_ms", static_cast<double>(record.pause_us) / 1000},
            {"cut_ms", static_cast<double>(record.cut_us) / 1000},
            {"bytes_new", record.bytes_new},
            {"bytes_total", record.bytes_total},
            {"unix_ms", record.unix_ms}};
}

Result<std::unique_ptr<ControlServer>> ControlServer::listen(Loop& loop, Run& run,
                                                             const VcPaths& paths) {
    PPDSM_ASSIGN(OwnedFd listener, listen_at(paths.control()));
    return std::unique_ptr<ControlServer>(new ControlServer(loop, run, paths, std::move(listener)));
}

ControlServer::ControlServer(Loop& loop, Run& run, VcPaths paths, OwnedFd listener)
    : loop_(loop), run_(run), paths_(std::move(paths)), listener_(std::move(listener)) {
    poller_ = std::make_unique<Poller>(loop_, listener_.get(), [this](int) { accept_client(); });
    poller_->watch(UV_READABLE);
}

ControlServer::~ControlServer() { ::unlink(paths_.control().c_str()); }

void ControlServer::accept_client() {
    OwnedFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;
    const std::uint64_t id = next_client_++;
    auto poller = std::make_unique<Poller>(loop_, fd.get(), [this, id](int) { on_request(id); });
    poller->watch(UV_READABLE | UV_DISCONNECT);
    clients_.emplace(id, Client{std::move(fd), std::move(poller)});
}

void ControlServer::on_request(std::uint64_t client) {
    std::string text(kMaxMessageBytes, '\0');
    const ssize_t got = ::recv(clients_.at(client).fd.get(), text.data(), text.size(), 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            loop_.post([this, client] { clients_.erase(client); });
        }
        return;
    }
    text.resize(static_cast<std::size_t>(got));
    const Json request = Json::parse(text, nullptr, false);
    if (!request.is_object()) return answer(client, {{"error", "not a request"}});
    handle(client, request);
}

void ControlServer::handle(std::uint64_t client, const Json& request) {
    const std::string action = request.value("do", "");
    if (action == "status") return answer(client, run_.status());
    if (action == "kill") {
        const int signal = request.value("signal", SIGTERM);
        if (signal == SIGKILL) {
            run_.kill("killed by `ppdsm kill`");
        } else {
            run_.forward_signal(signal);
        }
        return answer(client, Json::object());
    }
    if (action == "checkpoint") {
        return run_.checkpoint([this, client](const Result<GenerationRecord>& result) {
            answer(client, result ? to_json(*result) : Json{{"error", result.error().message()}});
        });
    }
    answer(client, {{"error", "unknown request " + action}});
}

void ControlServer::answer(std::uint64_t client, const Json& reply) {
    const auto found = clients_.find(client);
    if (found == clients_.end()) return;  // It did not wait.
    const std::string text = reply.dump();
    (void)::send(found->second.fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

Result<Json> ask_executor(const VcPaths& paths, const Json& request) {
    const Result<OwnedFd> socket = connect_to(paths.control());
    if (!socket) {
        return fail(Code::kUnavailable, paths.id() + " is not running; `ppdsm resume " +
                                            paths.id() + "` goes on with it");
    }
    const std::string text = request.dump();
    if (::send(socket->get(), text.data(), text.size(), MSG_NOSIGNAL) < 0)
        return fail_errno("ask " + paths.id());
    std::string reply(kMaxMessageBytes, '\0');
    const ssize_t got = ::recv(socket->get(), reply.data(), reply.size(), 0);
    if (got <= 0) return fail(Code::kUnavailable, paths.id() + " ended before it answered");
    reply.resize(static_cast<std::size_t>(got));
    Json answer = Json::parse(reply, nullptr, false);
    if (!answer.is_object()) return fail(Code::kCorrupt, "unreadable answer from " + paths.id());
    if (answer.contains("error"))
        return fail(Code::kUnavailable, answer["error"].get<std::string>());
    return answer;
}

}  // namespace ppdsm
