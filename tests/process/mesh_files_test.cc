// Goal: a program runs on peers that have none of its files as it does at home, and sees one state
// of them whatever becomes of peers and files meanwhile. Method: three real daemons on loopback;
// those of b and c run in mount namespaces in which the submitter's directories, and those of the
// tools that a test is about, are empty. What a run printed and wrote is compared with a run by
// hand; what must not be had is asked for by a member of the mesh that has no part in the run.
#include <algorithm>

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

}  // namespace
}  // namespace ppdsm::process_test
