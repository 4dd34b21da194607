// program_files_start_bench [ROUNDS]: how long a start takes whose files are served and cached,
// against one of the same sandbox with direct binds; the same program, in turns. Prints medians.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "dsm/base/wall_clock.h"
#include "runtime/peer/vc_record.h"
#include "tests/unit/peer/program_files_worker.h"

namespace ppdsm {
namespace {

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values.at(values.size() / 2);
}

class StartBench {
public:
    StartBench() {
        std::string pattern = "/var/tmp/ppdsm-bench-files-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
        ::setenv("PPDSM_HOME", (directory_ / "home").c_str(), 1);
        home_ = Home::open().value();
        fs::create_directories(directory_ / "work");
        hashes_ = ContentHashes::open(directory_ / "hashes").value();
        cache_ = FileCache::open(loop_, {directory_ / "cache"}).value();
    }
    ~StartBench() { fs::remove_all(directory_); }
    StartBench(const StartBench&) = delete;
    StartBench& operator=(const StartBench&) = delete;

    double run_ms(const std::vector<std::string>& arguments, bool remote) {
        const VcPaths paths = home_->create_vc().value();
        VcRecord record;
        record.id = paths.id();
        record.program = arguments.front();
        record.arguments = arguments;
        record.environment = {"PATH=/usr/bin:/bin"};
        record.working_directory = directory_ / "work";
        record.created_unix_ms = unix_now_ms();
        record.checkpoint_every_ms = -1;
        (void)write_record(paths, record);
        const ViewPlan plan = plan_view(record, *home_).value();
        std::ofstream(directory_ / "plan") << encode_plan(plan);
        auto owner = FileOwner::open(loop_, plan, hashes_).value();
        std::unique_ptr<FileBroker> broker;
        if (remote) {
            broker = FileBroker::open(
                         loop_, *cache_, *owner,
                         {plan, "the-owner", paths.directory / "catalog", arguments.front(), false})
                         .value();
        }
        Worker worker(loop_, broker.get(),
                      {paths, remote ? (directory_ / "plan").string() : "-", {}, 0, 0});
        const nlohmann::json result = worker.result();
        fs::remove_all(paths.directory);
        if (!result.is_object() || result["exit_code"] != 0) {
            std::fprintf(stderr, "%s\n", result.dump().c_str());
            std::exit(1);
        }
        return result["took_us"].get<double>() / 1000;
    }

private:
    Loop loop_;
    fs::path directory_;
    std::optional<Home> home_;
    std::shared_ptr<ContentHashes> hashes_;
    std::unique_ptr<FileCache> cache_;
};

void measure(StartBench& bench, const char* name, const std::vector<std::string>& arguments,
             int rounds) {
    const double cold_ms = bench.run_ms(arguments, true);
    std::vector<double> direct;
    std::vector<double> served;
    for (int i = 0; i < rounds; ++i) {
        direct.push_back(bench.run_ms(arguments, false));
        served.push_back(bench.run_ms(arguments, true));
    }
    std::printf(
        "{\"program\":\"%s\",\"first_ms\":%.1f,\"direct_ms\":%.1f,\"served_ms\":%.1f,"
        "\"rounds\":%d}\n",
        name, cold_ms, median(direct), median(served), rounds);
    std::fflush(stdout);
}

}  // namespace
}  // namespace ppdsm

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 11;
    ppdsm::StartBench bench;
    ppdsm::measure(bench, "true", {"/bin/true"}, rounds);
    ppdsm::measure(bench, "python3 with json, asyncio and decimal",
                   {"/usr/bin/python3", "-c", "import json, asyncio, decimal"}, rounds);
    ppdsm::measure(
        bench, "gcc of hello world",
        {"/bin/sh", "-c",
         "echo '#include <stdio.h>\nint main(void) { return puts(\"x\") < 0; }' > h.c && "
         "gcc h.c -o h && ./h"},
        rounds);
    return 0;
}
