// A mesh of real daemons for process tests, each with a home of its own; here on loopback.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "tests/process/harness.h"

namespace ppdsm::process_test {

using Json = nlohmann::json;

class MeshTest : public ProcessTest {
protected:
    struct Peer {
        std::string name;
        fs::path home;
        std::unique_ptr<ChildProcess> daemon;
        std::vector<fs::path> hidden;  ///< Directories that are empty where its daemon runs.
    };

    void TearDown() override {
        stop_daemons();
        EXPECT_TRUE(wait_until([&] { return own_processes().empty(); }))
            << "the daemons are dead, but something of theirs runs on";
        ProcessTest::TearDown();
    }
    void stop_daemons() {
        for (auto& [name, peer] : peers_) {
            if (!peer.daemon) continue;
            EXPECT_FALSE(peer.daemon->has_ended()) << "the daemon of " << name << " died by itself";
            peer.daemon->send_signal(SIGCONT);
            peer.daemon->send_signal(SIGKILL);
            const Outcome said = peer.daemon->wait(kDeadline);
            if (HasFailure())
                fprintf(stderr, "--- daemon %s ---\n%s", name.c_str(), said.err.c_str());
            peer.daemon.reset();
        }
    }

    /// `fault`: see runtime/peer/fault_point.h.
    void start_peer(const std::string& name, const std::string& fault = "",
                    const Arguments& more = {}) {
        const std::string before = std::exchange(where_, name);
        Peer& peer = peers_[name];
        peer.name = name;
        peer.home = directory("peer-" + name);
        Arguments argv = {ppdsm(),   "peer",   "start", "--foreground", "--home",
                          peer.home, "--name", name,    "--listen",     listen_address(name)};
        argv.insert(argv.end(), more.begin(), more.end());
        if (!peer.hidden.empty()) argv = without(peer.hidden, argv);
        if (!fault.empty()) environment()["PPDSM_FAULT"] = fault;
        peer.daemon = start(argv, world());
        environment().erase("PPDSM_FAULT");
        where_ = before;
        ASSERT_TRUE(wait_until([&] { return ask(name, {"list"}).exit_code == 0; }))
            << "peer " << name << " does not serve";
    }
    /// The command in a mount namespace of its own, in which these directories are empty.
    static Arguments without(const std::vector<fs::path>& hidden, const Arguments& argv) {
        std::string script = "mount --make-rprivate /; ";
        for (const fs::path& directory : hidden) {
            script += "mount -t tmpfs -o mode=0755 none '" + directory.string() + "'; ";
        }
        Arguments all = {"unshare", "-m", "sh", "-ec", script + "exec \"$@\"", "sh"};
        all.insert(all.end(), argv.begin(), argv.end());
        return all;
    }
    Outcome ask(const std::string& peer, Arguments arguments) {
        Arguments all = {"peer"};
        all.insert(all.end(), arguments.begin(), arguments.end());
        all.insert(all.end(), {"--home", peers_.at(peer).home});
        const std::string before = std::exchange(where_, peer);
        Outcome outcome = run_ppdsm(all);
        where_ = before;
        return outcome;
    }
    std::string invite(const std::string& by, const Arguments& more = {}) {
        Arguments arguments = {"invite"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        std::string token = ask(by, arguments).out;
        while (token.ends_with('\n')) token.pop_back();
        return token;
    }
    Json list_from(const std::string& peer) {
        const Outcome outcome = ask(peer, {"list", "--json"});
        return outcome.exit_code == 0 ? Json::parse(outcome.out) : Json::array();
    }
    /// How many of the mesh `peer` sees alive, linked and with something to offer; itself included.
    std::size_t ready_from(const std::string& peer) {
        std::size_t ready = 0;
        for (const Json& each : list_from(peer)) {
            ready += each["state"] == "alive" && each["linked"] && each.value("speed", 0.0) > 0;
        }
        return ready;
    }
    void wait_for_mesh(std::size_t size) {
        for (const auto& [name, peer] : peers_) {
            if (!peer.daemon) continue;
            ASSERT_TRUE(wait_until([&] { return ready_from(name) == size; }))
                << name << " sees " << list_from(name).dump(1);
        }
    }
    /// Peers a (whose user we are), b and c.
    void start_mesh() {
        for (const char* name : {"a", "b", "c"}) start_peer(name);
        for (const char* name : {"b", "c"}) {
            ASSERT_EQ(ask(name, {"join", invite("a")}).exit_code, 0);
        }
        wait_for_mesh(3);
        become_user_of("a");
    }
    void become_user_of(const std::string& peer) {
        where_ = peer;
        environment()["PPDSM_HOME"] = peers_.at(peer).home;
    }
    void kill_peer(const std::string& name) {
        peers_.at(name).daemon->send_signal(SIGKILL);
        peers_.at(name).daemon->wait(kDeadline);
        peers_.at(name).daemon.reset();
    }
    /// The name of the peer that runs the VC called `name`, once it has committed so much.
    std::string worker_of(const std::string& name, std::uint64_t least_generation = 0) {
        std::string worker;
        wait_until([&] {
            const Outcome outcome = run_ppdsm({"ps", "--json"});
            if (outcome.exit_code != 0) return false;
            for (const Json& vc : Json::parse(outcome.out)) {
                if (vc["name"] != name || vc["state"] != "running") continue;
                if (vc.value("generation", std::uint64_t{0}) < least_generation) continue;
                worker = vc["peer"].get<std::string>().substr(0, 1);
                return true;
            }
            return false;
        });
        return worker;
    }
    std::string vc_called(const std::string& name) {
        for (const Json& vc : Json::parse(run_ppdsm({"ps", "--json"}).out)) {
            if (vc["name"] == name) return vc["id"];
        }
        return "";
    }
    static Arguments often(const std::string& on) {
        return {"--checkpoint-every", "200ms", "--name", "job", "--on", on};
    }
    /// Also of one whose daemon died under `exec` and has come back.
    Outcome outcome_of(ChildProcess& exec, const std::string& vc) {
        Outcome outcome = exec.wait(kDeadline);
        if (!contains(outcome.err, "the daemon is gone")) return outcome;
        run_ppdsm({"attach", vc});  // Waits until it has ended; it may have done so before.
        const int exit_code = run_ppdsm({"wait", vc}).exit_code;
        Outcome logged = run_ppdsm({"logs", vc});
        logged.exit_code = exit_code;
        return logged;
    }
    void expect_same(const Outcome& plain, const Outcome& outcome, const fs::path& plain_work,
                     const fs::path& work) {
        EXPECT_EQ(plain.exit_code, outcome.exit_code) << outcome.err;
        EXPECT_TRUE(none(text_difference(plain.out, outcome.out)));
        EXPECT_TRUE(none(text_difference(plain.err, without_own_messages(outcome.err))));
        EXPECT_TRUE(none(tree_difference(read_tree(plain_work), read_tree(work))));
    }
    static std::string status_of(pid_t pid) {
        std::ifstream status("/proc/" + std::to_string(pid) + "/status");
        std::stringstream text;
        text << status.rdbuf();
        return text.str();
    }
    static pid_t parent_of(pid_t pid) {
        const std::string status = status_of(pid);
        const std::size_t at = status.find("PPid:\t");
        return at == std::string::npos ? 0 : std::stoi(status.substr(at + 6));
    }
    /// The executor of the VC on that peer.
    pid_t executor_on(const std::string& peer) {
        for (const pid_t pid : own_processes()) {
            if (parent_of(pid) == peers_.at(peer).daemon->pid() &&
                contains(status_of(pid), "Name:\tppdsm-executor\n")) {
                return pid;
            }
        }
        return 0;
    }
    /// Whether a process of that name is among the descendants of the peer's executor.
    bool runs_on(const std::string& peer, const std::string& name) {
        const pid_t executor = executor_on(peer);
        const auto pids = own_processes();
        return executor != 0 && std::any_of(pids.begin(), pids.end(), [&](pid_t pid) {
                   if (!contains(status_of(pid), "Name:\t" + name + "\n")) return false;
                   while (pid > 1 && pid != executor) pid = parent_of(pid);
                   return pid == executor;
               });
    }

    /// HOST:PORT.
    virtual std::string listen_address(const std::string& /*peer*/) { return "127.0.0.1:0"; }

    std::map<std::string, Peer> peers_;
    /// Whose machine commands run at, where peers have machines of their own; empty: at none.
    std::string where_;
};

/// Lasts about three seconds; prints, reads and writes files all the while.
inline Arguments steady_job() {
    return {"sh", "-c",
            "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; echo note $i >&2; "
            "echo $i >> log.txt; sleep 0.1; done; mkdir d; mv log.txt d/; exit 7"};
}

}  // namespace ppdsm::process_test
