// Goal: a checkpoint can be looked into, checked, carried away and gone on with. Method: one Python
// program whose state is known, its generations seen through the commands a user has.
#include <signal.h>

#include <fstream>

#include "tests/process/harness.h"

namespace ppdsm::process_test {
namespace {

using Json = nlohmann::json;

constexpr const char* kProgram = R"(
import time
secret = 'needle-' + 'in-the-haystack'
log = open('log.txt', 'w')
for i in range(100):
    print(i, flush=True)
    log.write('line %d\n' % i)
    log.flush()
    time.sleep(0.05)
)";

class Inspect : public ProcessTest {
protected:
    /// Detached, with its first generations.
    VcStatus start_job() {
        work_ = directory("work");
        const auto exec = start_exec({"--detach", "--name", "job", "--checkpoint-every", "300ms"},
                                     {"/usr/bin/python3", "-c", kProgram}, work_);
        EXPECT_EQ(exec->wait(kDeadline).exit_code, 0);
        const std::optional<VcStatus> vc = running_vc("job", 2);
        EXPECT_TRUE(vc);
        return vc.value_or(VcStatus{});
    }
    Json run_json(Arguments arguments) {
        arguments.emplace_back("--json");
        const Outcome outcome = run_ppdsm(arguments);
        EXPECT_TRUE(Json::accept(outcome.out)) << outcome.out << outcome.err;
        return Json::parse(outcome.out, nullptr, false);
    }
    void finish() { EXPECT_EQ(run_ppdsm({"wait", "job"}).exit_code, 0); }

    fs::path work_;
};

TEST_F(Inspect, ShowsWhatAGenerationHolds) {
    start_job();
    const Json made = run_json({"checkpoint", "create", "job"});
    ASSERT_TRUE(made.contains("generation"));
    const Json shown = run_json({"checkpoint", "show", "job"});
    ASSERT_EQ(shown["processes"].size(), 2U);  // Init and the program.
    const Json& python = shown["processes"][1];
    EXPECT_EQ(python["exe"].get<std::string>().find("/usr/bin/python3"), 0U);
    EXPECT_EQ(python["cwd"], work_.string());
    bool has_log = false;
    for (const Json& descriptor : python["descriptors"]) {
        has_log = has_log || descriptor["description"] == (work_ / "log.txt").string();
    }
    EXPECT_TRUE(has_log);
    EXPECT_FALSE(shown["criu"].get<std::string>().empty());
    EXPECT_FALSE(shown["cpu_features"].empty());
    finish();
}

TEST_F(Inspect, FindsAPatternInMemoryAndDumpsIt) {
    start_job();
    const Json matches = run_json({"memory", "search", "job", "needle-in-the-haystack"});
    ASSERT_FALSE(matches.empty());
    const std::string address = matches[0]["address"];
    const Outcome dump = run_ppdsm({"memory", "dump", "job", address, "16"});
    EXPECT_NE(dump.out.find("|needle-in-the-ha|"), std::string::npos) << dump.out;
    EXPECT_EQ(
        run_ppdsm({"memory", "search", "job", "this-is-not-in-it-" + std::to_string(getpid())})
            .exit_code,
        1);
    finish();
}

TEST_F(Inspect, TellsWhatChangedBetweenTwoGenerations) {
    start_job();
    const Json first = run_json({"checkpoint", "create", "job"});
    const Json second = run_json({"checkpoint", "create", "job"});
    const Json diff =
        run_json({"checkpoint", "diff", "job@" + std::to_string(first["generation"].get<int>()),
                  "job@" + std::to_string(second["generation"].get<int>())});
    EXPECT_GT(diff["pages"]["unchanged"].get<int>(), diff["pages"]["changed"].get<int>());
    EXPECT_TRUE(diff["added"].empty());
    EXPECT_TRUE(diff["removed"].empty());
    finish();
}

TEST_F(Inspect, VerifyNamesAFlippedByte) {
    start_job();
    finish();
    EXPECT_EQ(run_ppdsm({"checkpoint", "verify", "job"}).exit_code, 0);
    const VcStatus vc = find_vc("job").value();
    fs::path pack;
    for (const auto& entry : fs::directory_iterator(home() / "vcs" / vc.id / "chunks")) {
        if (pack.empty() || fs::file_size(entry.path()) > fs::file_size(pack)) pack = entry.path();
    }
    ASSERT_FALSE(pack.empty());
    std::fstream file(pack, std::ios::in | std::ios::out | std::ios::binary);
    const auto middle = static_cast<std::streamoff>(fs::file_size(pack) / 2);
    file.seekg(middle);
    const int byte = file.get();
    file.seekp(middle);
    file.put(static_cast<char>(byte ^ 1));
    file.close();
    const Outcome verified = run_ppdsm({"checkpoint", "verify", "job"});
    EXPECT_EQ(verified.exit_code, 1);
    EXPECT_NE(verified.out.find(pack.filename().string()), std::string::npos) << verified.out;
}

TEST_F(Inspect, AnExportGoesOnSomewhereElse) {
    start_job();
    const fs::path file = world() / "job.ppdsm";
    EXPECT_EQ(run_ppdsm({"checkpoint", "export", "job", file}).exit_code, 0);
    finish();
    const std::string whole = run_ppdsm({"logs", "job"}).out;
    // Another home stands for another machine; the working directory is the same.
    environment()["PPDSM_HOME"] = directory("other-home");
    const Outcome checked = run_ppdsm({"restore", file, "--check"});
    EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.err;
    const Outcome restored = run_ppdsm({"restore", file});
    EXPECT_EQ(restored.exit_code, 0) << restored.err;
    EXPECT_FALSE(restored.out.empty());
    EXPECT_TRUE(whole.ends_with(restored.out)) << restored.out;
}

TEST_F(Inspect, ATruncatedOrForeignExportIsRefusedByName) {
    start_job();
    const fs::path file = world() / "job.ppdsm";
    EXPECT_EQ(run_ppdsm({"checkpoint", "export", "job", file}).exit_code, 0);
    finish();
    fs::resize_file(file, fs::file_size(file) / 2);
    const Outcome truncated = run_ppdsm({"checkpoint", "import", file});
    EXPECT_EQ(truncated.exit_code, 125);
    EXPECT_NE(truncated.err.find(file.string()), std::string::npos) << truncated.err;
    write_text(file, "something else entirely");
    EXPECT_EQ(run_ppdsm({"checkpoint", "import", file}).exit_code, 125);
    EXPECT_EQ(list_vcs().size(), 1U);
}

TEST_F(Inspect, RestoreCheckNamesWhatIsMissing) {
    start_job();
    const fs::path file = world() / "job.ppdsm";
    EXPECT_EQ(run_ppdsm({"checkpoint", "export", "job", file}).exit_code, 0);
    finish();
    fs::rename(work_, world() / "moved");
    const Outcome checked = run_ppdsm({"restore", file, "--check"});
    EXPECT_EQ(checked.exit_code, 1);
    EXPECT_NE(checked.out.find(work_.string()), std::string::npos) << checked.out;
    fs::rename(world() / "moved", work_);
}

TEST_F(Inspect, RmForgetsAnEndedProgramAndRefusesARunningOne) {
    const VcStatus vc = start_job();
    EXPECT_NE(run_ppdsm({"rm", "job"}).exit_code, 0);
    finish();
    EXPECT_EQ(run_ppdsm({"rm", vc.id.substr(0, 6)}).exit_code, 0);
    EXPECT_TRUE(list_vcs().empty());
}

}  // namespace
}  // namespace ppdsm::process_test
