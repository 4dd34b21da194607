// ppdsm-executor: runs one virtual computer's program for the daemon that started it, which it
// serves through the socket that it inherits as descriptor 3, and with which it dies. Beyond a
// run's own messages (run_server.h):
//   <- {"event":"hello"} when it holds the VC, or {"event":"failed","error"} and it ends
//   <- {"event":"propose","token","record"}, {"event":"propose-unprotected","token"},
//      {"event":"propose-end","token","status","output","failure"[,"files"]}
//   <- {"event":"files"} with a descriptor: the daemon's end of an incarnation's file channel
//   <- {"event":"call","number","offset","total"} + bytes: a part of what a virtual thread asks
//   -> {"do":"accept","token"[,"error"]}
//   -> {"do":"answer","number","offset","total"} + bytes
//   -> {"do":"leave"}: the end is accepted
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/base/packet_socket.h"
#include "runtime/peer/executor.h"
#include "runtime/peer/libexec.h"
#include "runtime/peer/local/run_server.h"
#include "runtime/peer/vthreads/call_parts.h"

namespace ppdsm {

namespace {

using Json = nlohmann::json;

constexpr int kDaemonSocket = 3;

/// The deployer decides; the daemon asks it.
class DeployersWord final : public CommitAuthority {
public:
    void use(LocalSocket& socket) { socket_ = &socket; }

    void commit(const GenerationRecord& record, Done done) override {
        ask({{"event", "propose"}, {"record", format_generation(record)}}, std::move(done));
    }
    void note_unprotected(Done done) override {
        ask({{"event", "propose-unprotected"}}, std::move(done));
    }
    void end(const EndRecord& end, const std::optional<GenerationRecord>& files,
             Done done) override {
        Json event = {{"event", "propose-end"},
                      {"status", end.wait_status},
                      {"output", end.output_bytes},
                      {"failure", bytes_to_utf8(end.failure)}};
        if (files) event["files"] = format_generation(*files);
        ask(std::move(event), std::move(done));
    }
    void call(std::uint64_t number, const Bytes& whole) {
        send_in_parts({{"event", "call"}}, number, whole, [this](const Json& head, Bytes part) {
            socket_->send(head, std::move(part));
        });
    }
    /// The end for the file server of a new incarnation.
    Result<OwnedFd> open_channel() {
        PPDSM_ASSIGN(auto ends, make_packet_pair());
        std::vector<OwnedFd> daemons;
        daemons.push_back(std::move(ends.first));
        socket_->send({{"event", "files"}}, {}, std::move(daemons));
        return std::move(ends.second);
    }
    void on_accept(const Json& head) {
        auto node = asked_.extract(head.value("token", std::uint64_t{0}));
        if (node.empty()) return;
        if (head.contains("error")) return node.mapped()(fail(error_from_json(head["error"])));
        node.mapped()({});
    }

private:
    void ask(Json event, Done done) {
        const std::uint64_t token = next_token_++;
        event["token"] = token;
        asked_[token] = std::move(done);
        socket_->send(event);
    }

    LocalSocket* socket_ = nullptr;
    std::map<std::uint64_t, Done> asked_;
    std::uint64_t next_token_ = 1;
};

struct Options {
    std::string home;
    std::string vc;
    std::uint64_t released_bytes = 0;
    bool previews = false;
};

Result<Executor::Setup> prepare(const Options& options, const Home& home) {
    Executor::Setup setup;
    setup.paths = VcPaths{options.vc};
    setup.released_bytes = options.released_bytes;
    PPDSM_ASSIGN(setup.record, read_record(setup.paths));
    PPDSM_ASSIGN(setup.libexec, find_libexec());
    setup.find_criu(home.cache());
    return setup;
}

Status run(Loop& loop, const Options& options, OwnedFd socket) {
    PPDSM_ASSIGN(const Home home, Home::open_at(options.home));
    PPDSM_ASSIGN(Executor::Setup setup, prepare(options, home));
    DeployersWord authority;
    setup.authority = &authority;
    PPDSM_ASSIGN(const std::string plan, read_text(setup.paths.plan()));
    PPDSM_ASSIGN(ViewPlan shown, decode_plan(plan));
    setup.remote_files = {std::move(shown), [&] { return authority.open_channel(); }};
    setup.on_call = [&](std::uint64_t number, const Bytes& call) { authority.call(number, call); };
    PPDSM_ASSIGN(const std::unique_ptr<Executor> executor,
                 Executor::open(loop, home, std::move(setup)));
    PartsReader answers;
    RunServer server(loop, *executor, std::make_unique<LocalSocket>(loop, std::move(socket)),
                     options.previews,
                     {[&](const Json& head, const LocalMessage& message) {
                          if (head.value("do", "") == "accept") authority.on_accept(head);
                          if (head.value("do", "") == "answer") {
                              auto answer = answers.take(head, message.data);
                              if (answer) executor->answer_call(answer->number, answer->bytes);
                          }
                          if (head.value("do", "") == "leave") loop.stop();
                      },
                      // Whoever runs us is gone: somebody else will take the program over.
                      [] { ::_exit(1); }});
    authority.use(server.socket());
    server.socket().send({{"event", "hello"}});
    loop.post([&] { executor->run(); });
    loop.run();
    return {};
}

int main_of_executor(int argc, char** argv) {
    CLI::App app("Runs one program for a ppdsm daemon; not for use by hand", "ppdsm-executor");
    Options options;
    app.add_option("--home", options.home)->required();
    app.add_option("--vc", options.vc)->required();
    app.add_option("--released", options.released_bytes);
    app.add_flag("--previews", options.previews);
    CLI11_PARSE(app, argc, argv);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::fcntl(kDaemonSocket, F_SETFD, FD_CLOEXEC);
    ::signal(SIGPIPE, SIG_IGN);
    // Kept for the report of a failure before the run takes it over.
    const OwnedFd spare(::fcntl(kDaemonSocket, F_DUPFD_CLOEXEC, 4));
    Loop loop;
    const Status ended = run(loop, options, OwnedFd(kDaemonSocket));
    if (ended) return 0;
    std::fprintf(stderr, "ppdsm-executor: %s\n", ended.error().message().c_str());
    LocalSocket last_word(loop, OwnedFd(::dup(spare.get())));
    last_word.send({{"event", "failed"}, {"error", error_to_json(ended.error())}});
    return 1;
}

}  // namespace

}  // namespace ppdsm

int main(int argc, char** argv) { return ppdsm::main_of_executor(argc, argv); }
