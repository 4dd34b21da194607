// Goal: a program runs on peers that have none of its files as it does at home, and sees one state
// of them whatever becomes of peers and files meanwhile. Method: three real daemons on loopback;
// those of b and c run in mount namespaces in which the submitter's directories, and those of the
// tools that a test is about, are empty. What a run printed and wrote is compared with a run by
// hand; what must not be had is asked for by a member of the mesh that has no part in the run.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>

#include "criu-glue/sandbox/directory_listing.h"
#include "runtime/peer/mesh/file_messages.h"
#include "runtime/peer/mesh/mesh.h"
#include "tests/process/mesh_fixture.h"

namespace ppdsm::process_test {
namespace {

class MeshFilesTest : public MeshTest {
protected:
    void SetUp() override {
        MeshTest::SetUp();
        work_ = directory("work");
        plain_ = directory("plain");
        hide({work_, plain_});
    }
    /// From the daemons of b and c.
    void hide(const std::vector<fs::path>& directories) {
        for (const char* name : {"b", "c"}) {
            auto& hidden = peers_[name].hidden;
            hidden.insert(hidden.end(), directories.begin(), directories.end());
        }
    }
    void hide_python() {
        for (const auto& entry : fs::directory_iterator("/usr/lib")) {
            if (entry.path().filename().string().starts_with("python3")) hide({entry.path()});
        }
    }
    /// In both working directories.
    void give(const std::string& name, const std::string& text, unsigned mode = 0644) {
        for (const fs::path& directory : {work_, plain_}) {
            fs::create_directories((directory / name).parent_path());
            write_text(directory / name, text, mode);
        }
    }
    /// By hand, then at b.
    void expect_same_elsewhere(const Arguments& job) {
        const Outcome by_hand = run_plain(job, plain_);
        start_mesh();
        expect_same(by_hand, run_exec({"--on", "b"}, job, work_), plain_, work_);
    }

    fs::path work_, plain_;
};

TEST_F(MeshFilesTest, AWorkingDirectoryIsSeenWhereThereIsNone) {
    give("input.txt", "some text\n");
    give("bin/script", "#!/bin/sh\ncat input.txt; ls -l bin | wc -l\n", 0755);
    fs::create_symlink("input.txt", work_ / "link");
    fs::create_symlink("input.txt", plain_ / "link");
    expect_same_elsewhere(
        {"sh", "-c", "bin/script; cat link; readlink link; echo more >> input.txt"});
}

TEST_F(MeshFilesTest, WhatAHostHasAtTheSamePathIsNotShown) {
    const fs::path secret = directory("secret");
    write_text(secret / "key", "the host's\n");
    peers_["a"].hidden = {secret};
    start_mesh();
    const Outcome outcome =
        run_exec({"--on", "b", "--expose", secret}, {"cat", secret / "key"}, work_);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(contains(outcome.err, "No such file")) << outcome.err;
}

TEST_F(MeshFilesTest, WhatWasNotExposedIsNamed) {
    const fs::path data = directory("data");
    write_text(data / "table", "1 2 3\n");
    start_mesh();
    const Outcome outcome =
        run_exec({"--on", "b"}, {"cat", data / "table", "/srv-of-nobody/file"}, work_);
    EXPECT_EQ(outcome.exit_code, 1);
    // The first on the way that the peer does not show.
    EXPECT_TRUE(contains(outcome.err, "--expose " + data.string())) << outcome.err;
    EXPECT_FALSE(contains(outcome.err, "--expose /srv-of-nobody")) << outcome.err;
}

TEST_F(MeshFilesTest, PythonRunsWhereItsLibraryIsNot) {
    if (!fs::exists("/usr/bin/python3")) GTEST_SKIP() << "no /usr/bin/python3";
    hide_python();
    expect_same_elsewhere({"/usr/bin/python3", "-c",
                           "import json, decimal, email.message, unittest, sqlite3\n"
                           "print(json.dumps([str(decimal.Decimal(1) / 7), json.__file__]))"});
}

TEST_F(MeshFilesTest, ACompilerRunsWhereItIsNot) {
    if (const auto missing = missing_command({"gcc"})) GTEST_SKIP() << "no " << *missing;
    hide({"/usr/lib/gcc", "/usr/include"});
    give("hello.c", "#include <stdio.h>\n#include \"own.h\"\nint main(void) { puts(OWN); }\n");
    give("own.h", "#define OWN \"compiled\"\n");
    expect_same_elsewhere({"sh", "-c", "gcc -O1 -o hello hello.c && ./hello; gcc -c absent.c"});
}

TEST_F(MeshFilesTest, ALibraryBesideTheProgramIsFound) {
    if (const auto missing = missing_command({"gcc"})) GTEST_SKIP() << "no " << *missing;
    const fs::path app = directory("app");
    write_text(app / "part.c", "#include <stdio.h>\nvoid part(void) { puts(\"its own\"); }\n");
    write_text(app / "main.c", "void part(void);\nint main(void) { part(); return 3; }\n");
    const Outcome built = run_plain({"sh", "-c",
                                     "gcc -shared -fPIC -o libpart.so part.c && "
                                     "gcc -o main main.c -L. -lpart -Wl,-rpath,'$ORIGIN'"},
                                    app);
    ASSERT_EQ(built.exit_code, 0) << built.err;
    hide({app});
    expect_same_elsewhere({app / "main"});
}

/// Once it has listed its directory, and again for each line of its input, it reads the file.
Arguments reader() { return {"sh", "-c", "ls; while read line; do cat input.txt; done; echo end"}; }

TEST_F(MeshFilesTest, AFileThatChangedBeforeItWasFetchedIsANamedError) {
    give("input.txt", "as it was\n");
    start_mesh();
    // Without checkpoints nothing is fetched ahead.
    const auto exec = start_exec({"--on", "b", "--checkpoint-every", "off", "--output", "live"},
                                 reader(), work_, Input::open_pipe());
    ASSERT_TRUE(wait_until([&] { return contains(exec->out_so_far(), "input.txt"); }));
    write_text(work_ / "input.txt", "as it is now\n");
    exec->write_input("\n");
    exec->close_input();
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.out, "input.txt\nend\n");
    EXPECT_TRUE(contains(outcome.err, "could not be fetched from their owner (1):")) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "input.txt: ")) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "changed at home before it was fetched")) << outcome.err;
}

TEST_F(MeshFilesTest, AChangeAfterwardsIsNotSeen) {
    give("input.txt", "as it was\n");
    start_mesh();
    const auto exec =
        start_exec({"--on", "b", "--output", "live"}, reader(), work_, Input::open_pipe());
    exec->write_input("\n");
    ASSERT_TRUE(wait_until([&] { return contains(exec->out_so_far(), "as it was"); }));
    write_text(work_ / "input.txt", "as it is now\n");
    write_text(work_ / "another", "new\n");
    exec->write_input("\n");
    exec->close_input();
    EXPECT_EQ(exec->wait(kDeadline).out, "input.txt\nas it was\nas it was\nend\n");
    EXPECT_EQ(read_whole(work_ / "input.txt"), "as it is now\n");
}

/// Reads a file that it has not read before, every tenth of a second, for three seconds.
class FilesOutlive : public MeshFilesTest {
protected:
    void SetUp() override {
        MeshFilesTest::SetUp();
        for (int i = 1; i <= 30; ++i) {
            const std::string number = std::to_string(i);
            give("d" + number + "/part", "part " + number + "\n");
        }
    }
    static Arguments job() {
        return {"sh", "-c",
                "i=0; while [ $i -lt 30 ]; do i=$((i+1)); cat d$i/part; sleep 0.1; done; "
                "ls -R d* | sort | md5sum > sum"};
    }
};

TEST_F(FilesOutlive, ThePeerThatHasThem) {
    if (!fs::exists("/usr/bin/python3")) GTEST_SKIP() << "no /usr/bin/python3";
    hide_python();
    const Arguments python = {"/usr/bin/python3", "-c",
                              "import time\n"
                              "for i in range(1, 31):\n"
                              "    print(open(f'd{i}/part').read(), end='', flush=True)\n"
                              "    time.sleep(0.1)\n"
                              "import decimal, sqlite3\n"
                              "print(decimal.Decimal(1) / 7)\n"};
    const Outcome by_hand = run_plain(python, plain_);
    start_mesh();
    ASSERT_EQ(ask("a", {"drain"}).exit_code, 0);  // It goes on at c.
    const auto exec = start_exec(often("b"), python, work_);
    ASSERT_EQ(worker_of("job", 2), "b");
    kill_peer("b");
    EXPECT_EQ(worker_of("job"), "c");
    expect_same(by_hand, exec->wait(kDeadline), plain_, work_);
}

TEST_F(FilesOutlive, TheirRemovalAtHome) {
    const Outcome by_hand = run_plain(job(), plain_);
    start_mesh();
    ASSERT_EQ(ask("a", {"drain"}).exit_code, 0);  // It goes on at c.
    const auto exec = start_exec(often("b"), job(), work_);
    ASSERT_EQ(worker_of("job", 2), "b");
    for (int i = 1; i <= 30; ++i) {
        const fs::path part = work_ / ("d" + std::to_string(i));
        fs::rename(part, directory("elsewhere") / part.filename());
    }
    kill_peer("b");
    const Outcome outcome = exec->wait(kDeadline);
    for (int i = 1; i <= 30; ++i) {
        const fs::path part = work_ / ("d" + std::to_string(i));
        fs::rename(directory("elsewhere") / part.filename(), part);
    }
    expect_same(by_hand, outcome, plain_, work_);
}

TEST_F(FilesOutlive, TheirOwnersDaemon) {
    const Outcome by_hand = run_plain(job(), plain_);
    start_mesh();
    const auto exec = start_exec(often("b"), job(), work_);
    ASSERT_EQ(worker_of("job", 2), "b");
    const std::string vc = vc_called("job");
    kill_peer("a");
    exec->wait(kDeadline);
    start_peer("a");
    const Outcome rest = run_ppdsm({"attach", vc});
    EXPECT_EQ(rest.exit_code, by_hand.exit_code) << rest.err;
    EXPECT_TRUE(none(text_difference(by_hand.out, run_ppdsm({"logs", vc}).out)));
    EXPECT_TRUE(none(tree_difference(read_tree(plain_), read_tree(work_))));
}

/// Asked for while its owner's daemon is away, a file is waited for.
TEST_F(MeshFilesTest, AnOwnersRestartIsWaitedFor) {
    give("input.txt", "as it was\n");
    start_mesh();
    const auto exec = start_exec({"--on", "b", "--name", "job", "--checkpoint-every", "off"},
                                 {"sh", "-c", "cat /dev/null; sleep 1; cat input.txt"}, work_);
    ASSERT_TRUE(wait_until([&] { return runs_on("b", "sleep"); }));
    const std::string vc = vc_called("job");
    kill_peer("a");
    exec->wait(kDeadline);
    ASSERT_TRUE(wait_until([&] { return runs_on("b", "cat"); }));
    start_peer("a");
    run_ppdsm({"attach", vc});
    EXPECT_EQ(run_ppdsm({"logs", vc}).out, "as it was\n");
}

/// A peer of the test's own, without a daemon: it says what no daemon would.
class Stranger {
public:
    Stranger(const fs::path& home, const std::string& token) {
        Mesh::Setup setup{
            home, "d", Endpoint::parse("127.0.0.1:0").value(), {}, spdlog::default_logger()};
        mesh_ = Mesh::start(loop_, std::move(setup)).value();
        until([&](auto done) {
            mesh_->join(token, [done](const Status& s) {
                EXPECT_TRUE(s);
                done();
            });
        });
    }
    Frame ask(const PeerId& peer, MessageType type, const Bytes& question) {
        Frame answer;
        until([&](auto done) {
            mesh_->request(peer, Priority::kBulk, type, question,
                           [&answer, done](Result<Frame> frame) {
                               EXPECT_TRUE(frame);
                               if (frame) answer = *std::move(frame);
                               done();
                           });
        });
        return answer;
    }
    PeerId id_of(const std::string& name) {
        Timer look(loop_, [&] {
            if (const auto id = mesh_->resolve(name); id && mesh_->is_linked(*id)) loop_.stop();
        });
        look.start(0, 5);
        loop_.run();
        return mesh_->resolve(name).value();
    }

private:
    void until(const std::function<void(std::function<void()>)>& begin) {
        begin([this] { loop_.stop(); });
        loop_.run();
    }
    Loop loop_;
    std::unique_ptr<Mesh> mesh_;
};

TEST_F(MeshFilesTest, AMemberThatHasNoPartInARunIsRefusedItsFiles) {
    give("input.txt", "not for all\n");
    start_mesh();
    const auto exec = start_exec({"--on", "b", "--name", "job"},
                                 {"sh", "-c", "cat input.txt; sleep 1000"}, work_);
    ASSERT_EQ(worker_of("job"), "b");
    const std::string vc = vc_called("job");
    Stranger stranger(directory("peer-d"), invite("a"));
    const PeerId owner = stranger.id_of("a");

    const Frame listed = stranger.ask(owner, MessageType::kListDirectory,
                                      encode_list_request({vc, {{work_.string(), {}}}}));
    const ListReply listing = decode_list_reply(listed.payload);
    ASSERT_FALSE(listing);
    EXPECT_TRUE(contains(listing.error().message(), "does not host it"))
        << listing.error().message();

    struct stat info{};
    ASSERT_EQ(::stat((work_ / "input.txt").c_str(), &info), 0);
    const FileAttributes seen = FileAttributes::of(info);
    const Frame read =
        stranger.ask(owner, MessageType::kGetContent,
                     encode_content_request({vc,
                                             (work_ / "input.txt").string(),
                                             {seen.size_bytes, seen.mtime_ns, seen.ctime_ns},
                                             {}}));
    const ContentReply content = decode_content_reply(read.payload);
    ASSERT_FALSE(content);
    EXPECT_TRUE(contains(content.error().message(), "does not host it"))
        << content.error().message();

    EXPECT_EQ(run_ppdsm({"kill", "job", "--signal", "KILL"}).exit_code, 0);
    exec->wait(kDeadline);
}

}  // namespace
}  // namespace ppdsm::process_test
