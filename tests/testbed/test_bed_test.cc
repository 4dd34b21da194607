// Goal: what the bed promises of its hosts holds, so that what tests on it show is true. Method:
// real connections and files on the hosts; network effects are compared with each other, never with
// a clock's figure.
#include "tests/testbed/test_bed.h"

#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

class TestBedTest : public ProcessTest {
protected:
    void SetUp() override {
        ProcessTest::SetUp();
        bed_ = std::make_unique<TestBed>(world(), environment());
    }
    void TearDown() override {
        bed_.reset();
        ProcessTest::TearDown();
    }
    std::unique_ptr<ChildProcess> start_at(const std::string& host, const Arguments& argv) {
        return start(bed_->enter(host, argv, "/"), world());
    }
    Outcome run_at(const std::string& host, const Arguments& argv) {
        return start_at(host, argv)->wait(kDeadline);
    }
    /// Serves one connection after the other with the line it got.
    std::unique_ptr<ChildProcess> serve_at(const std::string& host) {
        auto server = start_at(
            host, {"python3", "-c",
                   "import socket\ns=socket.create_server(('0.0.0.0',99))\nprint('up',flush=True)\n"
                   "while True:\n c,_=s.accept()\n c.sendall(c.recv(100))\n c.close()"});
        EXPECT_TRUE(wait_until([&] { return contains(server->out_so_far(), "up"); }));
        return server;
    }
    /// "said" when the server of that host answered within so many seconds, and how long it took.
    Outcome call_from(const std::string& host, const std::string& server, double seconds) {
        return run_at(host, {"python3", "-c",
                             "import socket,sys,time\nb=time.time()\n"
                             "s=socket.create_connection((sys.argv[1],99),float(sys.argv[2]))\n"
                             "s.sendall(b'said')\nprint(s.recv(100).decode(),time.time()-b)",
                             bed_->address(server), std::to_string(seconds)});
    }

    std::unique_ptr<TestBed> bed_;
};

TEST_F(TestBedTest, HostsTalkUntilTheyAreParted) {
    for (const char* name : {"a", "b", "c"}) bed_->add_host(name, {});
    const auto server = serve_at("b");
    EXPECT_TRUE(contains(call_from("a", "b", 10).out, "said"));
    bed_->partition({"a"});
    const Outcome parted = call_from("a", "b", 0.5);
    EXPECT_NE(parted.exit_code, 0);
    EXPECT_TRUE(contains(parted.err, "timed out")) << "not silent: " << parted.err;
    EXPECT_TRUE(contains(call_from("c", "b", 10).out, "said"));
    bed_->heal();
    EXPECT_TRUE(contains(call_from("a", "b", 10).out, "said"));
}

TEST_F(TestBedTest, DelayAndLossAreFelt) {
    for (const char* name : {"a", "b", "c"}) bed_->add_host(name, {});
    const auto server = serve_at("b");
    bed_->set_delay("a", "b", std::chrono::milliseconds(150));
    const auto seconds = [](const Outcome& outcome) {
        EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
        return std::atof(outcome.out.substr(outcome.out.find(' ') + 1).c_str());
    };
    // Two round trips: connecting, and the answer.
    EXPECT_GT(seconds(call_from("a", "b", 30)), 0.6);
    EXPECT_GT(seconds(call_from("a", "b", 30)), seconds(call_from("c", "b", 30)));
    bed_->set_loss("c", "b", 1);
    EXPECT_NE(call_from("c", "b", 0.5).exit_code, 0);
}

TEST_F(TestBedTest, WhatIsAnothersDoesNotExist) {
    write_text(directory("of-a") / "file", "a's");
    write_text(directory("of-b") / "file", "b's");
    write_text(directory("hidden") / "file", "nobody's");
    bed_->add_host("a", {.directories = {"of-a", "hidden"}, .hidden = {directory("hidden")}});
    const Outcome seen =
        run_at("a", {"sh", "-c",
                     "hostname; ls " + world().string() + " " + (world() / "hidden").string() +
                         "; cat " + (world() / "of-a/file").string() + "; echo new > " +
                         (world() / "of-a/written").string()});
    EXPECT_EQ(seen.out, "a\n" + world().string() + ":\nhidden\nof-a\n\n" +
                            (world() / "hidden").string() + ":\na's")
        << seen.err;
    EXPECT_TRUE(fs::exists(world() / "of-a/written")) << "a host's files are its own, and stay";
}

TEST_F(TestBedTest, AQuotaBites) {
    bed_->add_host("slow", {.directories = {}, .hidden = {}, .cpus = 0.1});
    bed_->add_host("fast", {});
    const Arguments loop = {"python3", "-c",
                            "import time\nend=time.time()+2\nn=0\nwhile time.time()<end: n+=1\n"
                            "print(n)"};
    const auto slow = start_at("slow", loop);
    const auto fast = start_at("fast", loop);
    const int slow_steps = std::atoi(slow->wait(kDeadline).out.c_str());
    const int fast_steps = std::atoi(fast->wait(kDeadline).out.c_str());
    EXPECT_GT(slow_steps, 0);
    EXPECT_LT(slow_steps * 2, fast_steps);
}

}  // namespace
}  // namespace ppdsm::process_test
