// Goal: what is no peer, or a broken one, is refused by name and harms nobody. Method: real
// daemons, towards which the test misbehaves while a program runs across the mesh; afterwards the
// mesh is as it was.
#include <sys/resource.h>

#include <fstream>

#include "dsm/wire/codec.h"
#include "dsm/wire/frame.h"
#include "messages_generated.h"
#include "runtime/peer/mesh/file_messages.h"
#include "runtime/peer/mesh/gossip_codec.h"
#include "runtime/peer/replication/generation_offer.h"
#include "tests/process/hostile_member.h"
#include "tests/process/mesh_fixture.h"

namespace ppdsm::process_test {
namespace {

class MeshRefusal : public MeshTest {
protected:
    std::string address_of(const std::string& peer) {
        for (const Json& each : list_from(peer)) {
            if (each["name"] == peer) return each["addresses"][0];
        }
        return "";
    }
    std::string log_of(const std::string& peer) { return peers_.at(peer).daemon->err_so_far(); }
    bool logs(const std::string& peer, const std::string& text) {
        return wait_until([&] { return contains(log_of(peer), text); });
    }
    std::size_t open_files(const std::string& peer) {
        const fs::path directory = "/proc/" + std::to_string(peers_.at(peer).daemon->pid()) + "/fd";
        return static_cast<std::size_t>(
            std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
    }
    std::uint64_t resident_kib(const std::string& peer) {
        const std::string status = status_of(peers_.at(peer).daemon->pid());
        const std::size_t at = status.find("VmRSS:");
        return at == std::string::npos ? 0 : std::stoull(status.substr(at + 6));
    }
    /// What b's key says to a instead of b. The real b is gone meanwhile.
    std::unique_ptr<HostileMember> as_b() {
        kill_peer("b");
        return std::make_unique<HostileMember>(peers_.at("b").home, address_of("a"));
    }
    /// The peers serve as if nothing had been.
    void expect_well(const std::string& on) {
        const Outcome outcome =
            run_exec({"--on", on}, {"sh", "-c", "echo well; exit 3"}, directory("work"));
        EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
        EXPECT_EQ(outcome.out, "well\n");
    }
    static Bytes preamble(std::uint16_t oldest, std::uint16_t newest) {
        Bytes bytes = {'P', 'P', 'D', 'S', 'M', 0};
        for (const std::uint16_t version : {oldest, newest}) {
            bytes.push_back(static_cast<std::uint8_t>(version & 0xFF));
            bytes.push_back(static_cast<std::uint8_t>(version >> 8));
        }
        bytes.resize(16);
        return bytes;
    }
};

/// As steady_job(), for eight seconds.
Arguments long_job() {
    return {"sh", "-c", "i=0; while [ $i -lt 80 ]; do i=$((i+1)); echo line $i; sleep 0.1; done"};
}

TEST_F(MeshRefusal, AnotherVersionIsRefusedAndBothAreNamed) {
    start_mesh();
    const auto member = as_b();
    ASSERT_TRUE(member->is_open());
    member->say(preamble(900, 901));
    EXPECT_TRUE(member->is_refused());
    EXPECT_TRUE(logs("a", "901")) << log_of("a");
    EXPECT_TRUE(contains(log_of("a"), std::to_string(kNewestWireVersion))) << log_of("a");
    expect_well("c");
}

TEST_F(MeshRefusal, GarbageEndsItsConnectionOnly) {
    start_mesh();
    const std::string address = address_of("a");
    Rng rng;
    for (int i = 0; i < 20; ++i) {
        const OwnedFd socket = connect_plainly(address);
        ASSERT_TRUE(socket.valid());
        Bytes garbage(1 + static_cast<std::size_t>(rng.fraction() * 4000));
        for (std::uint8_t& byte : garbage) byte = static_cast<std::uint8_t>(rng.fraction() * 256);
        (void)::send(socket.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    }
    // Also from one who is a member.
    const auto member = as_b();
    member->say(preamble(kOldestWireVersion, kNewestWireVersion));
    Bytes garbage(5000);
    for (std::uint8_t& byte : garbage) byte = static_cast<std::uint8_t>(rng.fraction() * 256);
    member->say(garbage);
    EXPECT_TRUE(member->is_refused());
    expect_well("c");
}

TEST_F(MeshRefusal, AFrameThatIsTooLargeIsRefusedByItsHeader) {
    start_mesh();
    const auto member = as_b();
    member->say(preamble(kOldestWireVersion, kNewestWireVersion));
    const std::uint64_t before_kib = resident_kib("a");
    Bytes header = encode_frame(MessageType::kHello, 0, {});
    header[3] = 0x7F;  // Of two gigabytes.
    member->say(header);
    EXPECT_TRUE(member->is_refused());
    EXPECT_LT(resident_kib("a"), before_kib + (16 << 10));
    expect_well("c");
}

TEST_F(MeshRefusal, AMessageBeforeTheGreetingIsRefused) {
    start_mesh();
    const auto member = as_b();
    member->say(preamble(kOldestWireVersion, kNewestWireVersion));
    member->say(encode_frame(MessageType::kForget, 0, {}));
    EXPECT_TRUE(member->is_refused());
    expect_well("c");
}

TEST_F(MeshRefusal, AThousandIdleConnectionsKeepNobodyOut) {
    rlimit files{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
    start_mesh();
    const std::string address = address_of("a");
    const std::size_t before = open_files("a");
    std::vector<OwnedFd> idle;
    for (int i = 0; i < 1000; ++i) {
        idle.push_back(connect_plainly(address));
        ASSERT_TRUE(idle.back().valid()) << i;
    }
    expect_well("b");
    start_peer("d");
    EXPECT_EQ(ask("d", {"join", invite("a")}).exit_code, 0);
    EXPECT_TRUE(wait_until([&] { return ready_from("d") == 4 && ready_from("a") == 4; }));
    EXPECT_FALSE(contains(log_of("a"), "is dead")) << log_of("a");
    idle.clear();
    // d's link is new.
    EXPECT_TRUE(wait_until([&] { return open_files("a") <= before + 2; })) << open_files("a");
}

TEST_F(MeshRefusal, TwoDaemonsOfOneHomeAreBothNamed) {
    start_mesh();
    const fs::path copy = directory("peer-copy");
    for (const char* file : {"identity.pem", "trust.json", "peers.json", "instance"}) {
        fs::copy_file(peers_.at("b").home / file, copy / file);
    }
    const std::string id = Json::parse(ask("b", {"show", "--json"}).out)["id"];
    start_peer("copy");
    // Whoever meets both says so, the copy and the original among them.
    EXPECT_TRUE(wait_until([&] {
        return std::ranges::any_of(peers_, [&](const auto& each) {
            const std::string log = each.second.daemon->err_so_far();
            return contains(log, id) && contains(log, "give one of them a new home");
        });
    })) << log_of("a")
        << log_of("b") << log_of("copy");
    kill_peer("copy");
    // The original finds back.
    EXPECT_TRUE(wait_until([&] { return ready_from("a") == 3 && ready_from("b") == 3; }))
        << list_from("a").dump(1);
    expect_well("b");
}

/// Knows a computation's id, and asks a holder for all that is held of it, and to drop it.
TEST_F(MeshRefusal, AMemberThatHasNothingToDoWithAComputationGetsNothingOfIt) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(long_job(), plain);
    start_mesh();
    start_peer("d");
    ASSERT_EQ(ask("d", {"join", invite("a")}).exit_code, 0);
    wait_for_mesh(4);
    const auto exec = start_exec(often("b"), long_job(), work);
    ASSERT_EQ(worker_of("job", 3), "b");
    const std::string vc = vc_called("job");
    const auto held_by = [&](const std::string& peer) {
        const fs::path manifests = peers_.at(peer).home / "hosted" / vc / "manifests";
        return fs::exists(manifests) && !fs::is_empty(manifests);
    };
    const std::string holder = held_by("c") ? "c" : "d";
    const std::string stranger = holder == "c" ? "d" : "c";
    ASSERT_TRUE(held_by(holder));
    ASSERT_FALSE(held_by(stranger)) << "of two replicas one is the deployer";
    kill_peer(stranger);
    HostileMember member(peers_.at(stranger).home, address_of(holder));
    member.say(preamble(kOldestWireVersion, kNewestWireVersion));
    Member self;
    self.instance = 1000;
    self.name = stranger;
    member.say(encode_frame(MessageType::kHello, 0, encode_hello(self)));
    wire::GenerationNameT name;
    name.vc = vc;
    member.say(encode_frame(MessageType::kForget, 0, encode_message<wire::GenerationName>(name)));
    const GenerationOffer offer{vc, 1000, 1000, 999, ChunkId::of({}), 1, {}};
    member.say(encode_frame(MessageType::kOffer, 1, encode_offer(offer)));
    name.generation = 3;
    member.say(encode_frame(MessageType::kGetOffer, 2, encode_message<wire::GenerationName>(name)));
    member.say(encode_frame(MessageType::kGetCatalog, 3, encode_catalog_request({vc, 0})));
    const std::optional<Frame> offered = member.answer_to(1), got = member.answer_to(2),
                               catalog = member.answer_to(3);
    ASSERT_TRUE(offered && got && catalog);
    EXPECT_EQ(decode_offer_answer(offered->payload)->outcome.error().code(), Code::kUnsupported);
    EXPECT_TRUE(got->payload.empty());
    EXPECT_EQ(decode_catalog_reply(catalog->payload).error().code(), Code::kUnsupported);
    EXPECT_TRUE(logs(holder, "has nothing to do with it")) << log_of(holder);
    EXPECT_TRUE(held_by(holder));
    kill_peer("b");
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
}

TEST_F(MeshRefusal, AnAddressThatNobodyAnswersIsNamed) {
    start_peer("a");
    start_peer("b");
    const std::string token = invite("a");
    const std::string address = address_of("a");
    kill_peer("a");
    const Outcome join = ask("b", {"join", token});
    EXPECT_NE(join.exit_code, 0);
    EXPECT_TRUE(contains(join.err, address)) << join.err;
    start_peer("c", "", {"--join", address, "--join", "no-such-host.invalid:7717"});
    EXPECT_TRUE(logs("c", address)) << log_of("c");
    EXPECT_TRUE(logs("c", "no-such-host.invalid")) << log_of("c");
}

TEST_F(MeshRefusal, AnInvitationThatIsNoneIsRefusedBeforeTheDaemonStarts) {
    const Outcome begun = run_ppdsm({"peer", "start", "--home", directory("peer-a"), "--listen",
                                     "127.0.0.1:0", "--join", "ppdsm-aaaa-bbbb"});
    EXPECT_NE(begun.exit_code, 0);
    EXPECT_TRUE(contains(begun.err, "this is no invitation")) << begun.err;
    EXPECT_TRUE(own_processes().empty());
}

TEST_F(MeshRefusal, AWrongClockHarmsNobody) {
    const fs::path work = directory("work"), plain = directory("plain");
    const Outcome by_hand = run_plain(steady_job(), plain);
    start_peer("a");
    // A day in 2001 for all that b's machine does.
    environment()["LD_PRELOAD"] = PPDSM_CLOCK_SHIFT;
    start_peer("b");
    environment().erase("LD_PRELOAD");
    start_peer("c");
    for (const char* name : {"b", "c"}) ASSERT_EQ(ask(name, {"join", invite("a")}).exit_code, 0);
    wait_for_mesh(3);
    become_user_of("a");
    const auto exec = start_exec(often("b"), steady_job(), work);
    EXPECT_EQ(worker_of("job", 2), "b");
    kill_peer("b");
    expect_same(by_hand, exec->wait(kDeadline), plain, work);
}

TEST_F(MeshRefusal, AFrozenPeerIsHeldDeadAndComesBackByItself) {
    start_mesh();
    const auto exec =
        start_exec(often("b"), {"sh", "-c", "while [ ! -e go ]; do sleep 0.05; done; echo once"},
                   directory("work"));
    ASSERT_EQ(worker_of("job", 1), "b");
    const pid_t old_executor = executor_on("b");
    peers_.at("b").daemon->send_signal(SIGSTOP);
    EXPECT_TRUE(wait_until([&] {
        const std::string worker = worker_of("job");
        return !worker.empty() && worker != "b";
    }));
    peers_.at("b").daemon->send_signal(SIGCONT);
    EXPECT_TRUE(wait_until([&] { return process_state(old_executor) == 0; }))
        << "the incarnation that was given up runs on";
    EXPECT_TRUE(wait_until([&] { return ready_from("a") == 3 && ready_from("b") == 3; }));
    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    EXPECT_EQ(exec->wait(kDeadline).exit_code, 137);
}

}  // namespace
}  // namespace ppdsm::process_test
