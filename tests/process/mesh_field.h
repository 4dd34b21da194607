// A mesh of daemons on separate machines of the test bed, for process tests. The submitter's
// machine is a; nobody else has its files.
#pragma once

#include "tests/process/mesh_fixture.h"
#include "tests/testbed/test_bed.h"

namespace ppdsm::process_test {

class MeshFieldTest : public MeshTest {
protected:
    void SetUp() override {
        MeshTest::SetUp();
        bed_ = std::make_unique<TestBed>(world(), environment());
    }
    void TearDown() override {
        // Also those that the bed cannot reach any more.
        where_.clear();
        for (auto& [name, peer] : peers_) {
            if (peer.daemon) peer.daemon->send_signal(SIGCONT);
        }
        bed_->heal();
        stop_daemons();
        bed_.reset();
        MeshTest::TearDown();
    }
    std::unique_ptr<ChildProcess> start(const Arguments& argv, const fs::path& cwd,
                                        Input input = {}) override {
        if (where_.empty()) return MeshTest::start(argv, cwd, std::move(input));
        return MeshTest::start(bed_->enter(where_, argv, cwd), world(), std::move(input));
    }
    std::string listen_address(const std::string& peer) override {
        return bed_->address(peer) + ":7717";
    }
    void add_host(const std::string& name, HostOptions options = {}) {
        directory("peer-" + name);
        directory("work");
        options.directories = {"peer-" + name};
        if (name == "a") options.directories.emplace_back("work");  // Nobody else has its files.
        bed_->add_host(name, options);
    }
    void start_field(const std::vector<std::string>& names = {"a", "b", "c"}) {
        for (const std::string& name : names) {
            add_host(name);
            start_peer(name);
        }
        join_all();
    }
    void join_all() {
        for (const auto& [name, peer] : peers_) {
            if (name != "a") {
                ASSERT_EQ(ask(name, {"join", invite("a")}).exit_code, 0);
            }
        }
        wait_for_mesh(peers_.size());
        become_user_of("a");
    }
    std::string state_from(const std::string& observer, const std::string& peer) {
        for (const Json& each : list_from(observer)) {
            if (each["name"] == peer) return each["state"];
        }
        return "";
    }
    bool all_others_say(const std::string& peer, const std::string& state) {
        return wait_until([&] {
            return std::ranges::all_of(peers_, [&](const auto& each) {
                return each.first == peer || state_from(each.first, peer) == state;
            });
        });
    }

    /// The names of the peers that have the VC's last generation.
    std::set<std::string> replicas_of(const std::string& name) {
        std::map<std::string, std::string> names;
        for (const Json& peer : list_from("a")) names[peer["id"]] = peer["name"];
        std::set<std::string> replicas;
        for (const Json& vc : Json::parse(run_ppdsm({"ps", "--json"}).out)) {
            if (vc["name"] != name) continue;
            for (const Json& id : vc["replicas"]) replicas.insert(names[id]);
        }
        return replicas;
    }

    std::unique_ptr<TestBed> bed_;
};

}  // namespace ppdsm::process_test
