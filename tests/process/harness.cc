#include "tests/process/harness.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

namespace ppdsm::process_test {
namespace {

/// One that nothing else has.
constexpr uid_t kOrdinaryUser = 61'093;

constexpr std::string_view kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string test_name() {
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    return std::string(info->test_suite_name()) + "." + info->name();
}

/// On a disk, not in /tmp: that may be a tmpfs, and a program under exec has a /tmp of its own.
fs::path worlds_directory() {
    const char* chosen = std::getenv("PPDSM_TEST_DIR");
    return chosen != nullptr ? fs::path(chosen) : fs::path("/var/tmp");
}

std::string escaped(std::string_view text) {
    std::string shown;
    for (const char c : text) {
        char code[8];
        if (c == '\n') {
            shown += "\\n";
        } else if (c >= ' ' && c <= '~') {
            shown += c;
        } else {
            std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned char>(c));
            shown += code;
        }
    }
    return shown;
}

std::string describe_file(const fs::path& path, const struct stat& status) {
    std::ostringstream text;
    const mode_t kind = status.st_mode & S_IFMT;
    if (kind == S_IFLNK) {
        text << "link to " << fs::read_symlink(path).string();
    } else if (kind == S_IFREG) {
        const std::string content = read_whole(path);
        text << "file of " << content.size() << " bytes, hash " << std::hex
             << XXH3_64bits(content.data(), content.size()) << std::dec;
    } else {
        text << (kind == S_IFDIR ? "directory" : "special file");
    }
    text << ", owner " << status.st_uid << ":" << status.st_gid;
    if (kind != S_IFLNK) text << ", mode " << std::oct << (status.st_mode & 07777);
    return text.str();
}

/// Calls `visit` with each line of `text`, its end included.
void each_line(std::string_view text, const std::function<void(std::string_view)>& visit) {
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
        visit(text.substr(0, end));
        text.remove_prefix(end);
    }
}

constexpr std::string_view kOwnPrefix = "ppdsm:";

std::string own_messages(std::string_view err) {
    std::string kept;
    each_line(err, [&](std::string_view line) {
        if (line.starts_with(kOwnPrefix)) kept += line;
    });
    return kept;
}

}  // namespace

bool wait_until(const std::function<bool()>& predicate, Seconds deadline) {
    const auto until = std::chrono::steady_clock::now() + deadline;
    while (!predicate()) {
        if (std::chrono::steady_clock::now() >= until) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

Rng::Rng() {
    const std::string name = test_name();
    const char* chosen = std::getenv("PPDSM_TEST_SEED");
    const std::uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10)
                                                 : XXH3_64bits(name.data(), name.size());
    std::cout << "seed " << seed << " (again: PPDSM_TEST_SEED=" << seed << " and --gtest_filter='"
              << name << "')\n";
    engine_.seed(seed);
}

double Rng::fraction() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

Tree read_tree(const fs::path& directory) {
    Tree tree;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
        struct stat status{};
        if (lstat(entry.path().c_str(), &status) == -1) continue;  // It has just gone.
        tree[entry.path().lexically_relative(directory)] = describe_file(entry.path(), status);
    }
    return tree;
}

std::string text_difference(std::string_view expected, std::string_view actual) {
    if (expected == actual) return {};
    const auto [left, right] =
        std::mismatch(expected.begin(), expected.end(), actual.begin(), actual.end());
    const auto offset = static_cast<std::size_t>(left - expected.begin());
    const std::size_t from = offset < 60 ? 0 : offset - 60;
    std::ostringstream text;
    text << "they part at byte " << offset << " (line "
         << std::count(expected.begin(), left, '\n') + 1 << "); sizes: expected " << expected.size()
         << ", actual " << actual.size() << "\n  expected ..."
         << escaped(expected.substr(from, 160)) << "\n  actual   ..."
         << escaped(actual.substr(from, 160));
    return text.str();
}

std::string tree_difference(const Tree& expected, const Tree& actual) {
    std::string text;
    for (const auto& [path, entry] : expected) {
        const auto found = actual.find(path);
        if (found == actual.end()) {
            text += "\n  " + path + ": missing, expected " + entry;
        } else if (found->second != entry) {
            text += "\n  " + path + ": " + found->second + ", expected " + entry;
        }
    }
    for (const auto& [path, entry] : actual) {
        if (!expected.contains(path)) text += "\n  " + path + ": unexpected " + entry;
    }
    return text;
}

std::string outcome_difference(const Outcome& expected, const Outcome& actual) {
    std::string text;
    if (expected.exit_code != actual.exit_code) {
        text += "exit code " + std::to_string(actual.exit_code) + ", expected " +
                std::to_string(expected.exit_code) + "\n";
    }
    const std::string out = text_difference(expected.out, actual.out);
    if (!out.empty()) text += "stdout: " + out + "\n";
    if (out.empty() &&
        (expected.out_bytes != actual.out_bytes || expected.out_hash != actual.out_hash)) {
        text += "stdout: " + std::to_string(actual.out_bytes) + " bytes, expected " +
                std::to_string(expected.out_bytes) + ", or other content beyond the kept part\n";
    }
    const std::string err = text_difference(expected.err, without_own_messages(actual.err));
    if (!err.empty()) text += "stderr: " + err + "\n";
    if (!text.empty()) text += "what ppdsm said:\n" + own_messages(actual.err);
    return text;
}

testing::AssertionResult none(const std::string& difference) {
    if (difference.empty()) return testing::AssertionSuccess();
    return testing::AssertionFailure() << difference;
}

std::string without_own_messages(std::string_view err) {
    std::string kept;
    each_line(err, [&](std::string_view line) {
        if (!line.starts_with(kOwnPrefix)) kept += line;
    });
    return kept;
}

void write_prose(const fs::path& path, std::size_t size_bytes) {
    std::mt19937 engine(31);  // The standard fixes its sequence.
    std::vector<std::string> words;
    for (int i = 0; i < 3000; ++i) {
        std::string word;
        for (auto letters = engine() % 9 + 1; letters > 0; --letters) {
            word += static_cast<char>('a' + engine() % 26);
        }
        words.push_back(word);
    }
    std::string text;
    text.reserve(size_bytes + 16);
    while (text.size() < size_bytes) {
        const auto spread = engine() % 3000;
        text += words[spread * spread / 3000];
        text += engine() % 12 == 0 ? '\n' : ' ';
    }
    text.resize(size_bytes);
    write_text(path, text);
}

void write_text(const fs::path& path, std::string_view text, unsigned mode) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    ASSERT_TRUE(file.good()) << "cannot write " << path;
    ASSERT_EQ(chmod(path.c_str(), mode), 0) << path;
}

std::string read_whole(const fs::path& path) {
    const std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();  // Does not throw where a process of /proc has just gone.
    return text.str();
}

std::vector<Event> read_events(const fs::path& path) {
    std::vector<Event> events;
    const std::string text = read_whole(path);
    std::size_t begin = 0;
    for (std::size_t end = text.find('\n'); end != std::string::npos;
         end = text.find('\n', begin)) {
        const std::string line = text.substr(begin, end - begin);
        begin = end + 1;
        nlohmann::json fields = nlohmann::json::parse(line, nullptr, false);
        if (fields.is_discarded() || !fields.contains("event")) {
            ADD_FAILURE() << path << ": not an event: " << line;
            continue;
        }
        std::string kind = fields["event"].get<std::string>();
        events.push_back({std::move(kind), std::move(fields)});
    }
    return events;
}

std::size_t count_events(const fs::path& path, std::string_view kind) {
    const std::vector<Event> events = read_events(path);
    return static_cast<std::size_t>(std::count_if(
        events.begin(), events.end(), [&](const Event& event) { return event.kind == kind; }));
}

char process_state(pid_t pid) {
    const std::string status = read_whole("/proc/" + std::to_string(pid) + "/stat");
    const std::size_t end_of_name = status.rfind(')');
    if (end_of_name == std::string::npos || end_of_name + 2 >= status.size()) return 0;
    return status[end_of_name + 2];
}

std::optional<std::string> missing_command(const std::vector<std::string>& commands) {
    for (const std::string& command : commands) {
        std::istringstream directories{std::string(kPath)};
        bool found = false;
        for (std::string directory; std::getline(directories, directory, ':');) {
            found = found || access((directory + "/" + command).c_str(), X_OK) == 0;
        }
        if (!found) return command;
    }
    return std::nullopt;
}

void ProcessTest::SetUp() {
    if (geteuid() != 0) GTEST_SKIP() << "process tests need root: run ctest as root or by sudo";
    if (access(ppdsm().c_str(), X_OK) == -1) {
        GTEST_SKIP() << "there is no " << ppdsm() << ": build it, or name the command in PPDSM";
    }
    std::string pattern = worlds_directory() / "ppdsm-test-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr) << pattern;
    world_ = pattern;
    id_ = world_.filename();
    environment_ = {{"PATH", std::string(kPath)},
                    {"HOME", "/root"},
                    {"LC_ALL", "C"},
                    {"PPDSM_HOME", home()},
                    {"PPDSM_TEST_ID", id_}};
    fs::create_directory(home());
}

void ProcessTest::TearDown() {
    if (world_.empty()) return;
    assert_no_leftovers();
    if (HasFailure()) {
        std::cout << "kept for a look: " << world_ << "\n";
        return;
    }
    std::error_code error;
    fs::remove_all(world_, error);
    EXPECT_FALSE(error) << world_ << ": " << error.message();
}

void ProcessTest::become_ordinary_user() {
    is_ordinary_user_ = true;
    environment_["HOME"] = world_;
    hand_over(world_);
}

void ProcessTest::hand_over(const fs::path& path) const {
    if (!is_ordinary_user_) return;
    EXPECT_EQ(lchown(path.c_str(), kOrdinaryUser, kOrdinaryUser), 0) << path;
    if (fs::is_symlink(path) || !fs::is_directory(path)) return;
    for (const fs::directory_entry& entry : fs::directory_iterator(path)) hand_over(entry.path());
}

fs::path ProcessTest::directory(const std::string& name) {
    const fs::path path = world_ / name;
    if (fs::create_directories(path)) hand_over(path);
    return path;
}

std::string ProcessTest::program(const std::string& name) {
    return std::string(PPDSM_TEST_PROGRAMS) + "/" + name;
}

std::string ProcessTest::ppdsm() {
    const char* chosen = std::getenv("PPDSM");
    return chosen != nullptr ? chosen : PPDSM_COMMAND;
}

std::unique_ptr<ChildProcess> ProcessTest::start(const Arguments& argv, const fs::path& cwd,
                                                 Input input) {
    Arguments command;
    if (is_ordinary_user_) {
        const std::string user = std::to_string(kOrdinaryUser);
        command = {"/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups"};
    }
    command.insert(command.end(), argv.begin(), argv.end());
    return std::make_unique<ChildProcess>(command, cwd, environment_, std::move(input));
}

std::unique_ptr<ChildProcess> ProcessTest::start_exec(const Arguments& options,
                                                      const Arguments& argv, const fs::path& cwd,
                                                      Input input) {
    Arguments command = {ppdsm(), "exec"};
    command.insert(command.end(), options.begin(), options.end());
    command.push_back("--");
    command.insert(command.end(), argv.begin(), argv.end());
    return start(command, cwd, std::move(input));
}

Outcome ProcessTest::run_plain(const Arguments& argv, const fs::path& cwd, Input input) {
    Outcome outcome = start(argv, cwd, std::move(input))->wait(kDeadline);
    EXPECT_TRUE(wait_until([&] { return own_processes().empty(); }))
        << argv[0] << " left processes that do not end";
    return outcome;
}

Outcome ProcessTest::run_exec(const Arguments& options, const Arguments& argv, const fs::path& cwd,
                              Input input) {
    return start_exec(options, argv, cwd, std::move(input))->wait(kDeadline);
}

Outcome ProcessTest::run_ppdsm(const Arguments& arguments) {
    Arguments command = {ppdsm()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return start(command, world_)->wait(kDeadline);
}

std::vector<VcStatus> ProcessTest::list_vcs() {
    const Outcome outcome = run_ppdsm({"ps", "--json"});
    const nlohmann::json rows = nlohmann::json::parse(outcome.out, nullptr, false);
    if (outcome.exit_code != 0 || !rows.is_array()) {
        ADD_FAILURE() << "ppdsm ps --json: exit " << outcome.exit_code
                      << ", no array: " << outcome.out << outcome.err;
        return {};
    }
    std::vector<VcStatus> vcs;
    for (const nlohmann::json& row : rows) {
        VcStatus vc;
        vc.id = row.value("id", "");
        vc.name = row.value("name", "");
        vc.state = row.value("state", "");
        vc.generation = row.value("generation", std::uint64_t{0});
        vc.root_pid = row.value("root_pid", 0);
        vc.init_pid = row.value("init_pid", 0);
        vc.executor_pid = row.value("executor_pid", 0);
        const nlohmann::json processes = row.value("pids", nlohmann::json::array());
        for (const nlohmann::json& process : processes) vc.pids.push_back(process.value("pid", 0));
        vcs.push_back(std::move(vc));
    }
    return vcs;
}

std::optional<VcStatus> ProcessTest::find_vc(const std::string& name) {
    for (VcStatus& vc : list_vcs()) {
        if (vc.name == name || vc.id == name) return std::move(vc);
    }
    return std::nullopt;
}

std::optional<VcStatus> ProcessTest::running_vc(const std::string& name,
                                                std::uint64_t least_generation) {
    std::optional<VcStatus> found;
    wait_until([&] {
        found = find_vc(name);
        return HasFailure() || (found && found->runs() && found->generation >= least_generation);
    });
    const bool runs = found && found->runs();
    EXPECT_TRUE(runs) << "ps --json never showed " << name
                      << " running with generation >= " << least_generation;
    return runs ? found : std::nullopt;
}

std::vector<pid_t> ProcessTest::own_processes() const {
    const std::string marker = "PPDSM_TEST_ID=" + id_;
    std::vector<pid_t> pids;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
        const pid_t pid = std::atoi(entry.path().filename().c_str());
        if (pid <= 0 || pid == getpid()) continue;
        const std::string variables = '\0' + read_whole(entry.path() / "environ");
        if (variables.find('\0' + marker + '\0') != std::string::npos) pids.push_back(pid);
    }
    return pids;
}

void ProcessTest::assert_no_leftovers() {
    wait_until([&] { return own_processes().empty(); }, Seconds(10));
    for (const pid_t pid : own_processes()) {
        std::string command = read_whole("/proc/" + std::to_string(pid) + "/cmdline");
        std::replace(command.begin(), command.end(), '\0', ' ');
        ADD_FAILURE() << "left running: " << pid << " " << command;
        kill(pid, SIGKILL);
    }
    remove_leftover_mounts();
}

void ProcessTest::remove_leftover_mounts() {
    std::vector<std::string> mounts;
    std::istringstream lines(read_whole("/proc/self/mountinfo"));
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        std::string skipped, mount_point;
        fields >> skipped >> skipped >> skipped >> skipped >> mount_point;
        if (mount_point.starts_with(world_.string() + "/")) mounts.push_back(mount_point);
    }
    std::reverse(mounts.begin(), mounts.end());  // The inner ones first.
    for (const std::string& mount_point : mounts) {
        ADD_FAILURE() << "left mounted: " << mount_point;
        umount2(mount_point.c_str(), MNT_DETACH);
    }
}

void CheckpointedRunTest::kill_once(ChildProcess& exec, std::uint64_t generation) {
    ASSERT_TRUE(wait_until([&] {
        return count_events(events(), "checkpoint_committed") >= generation || exec.has_ended();
    }));
    const std::optional<VcStatus> vc = running_vc("job", generation);
    ASSERT_TRUE(vc) << exec.out_so_far();
    ASSERT_EQ(kill(vc->root_pid, SIGKILL), 0);
    ASSERT_TRUE(
        wait_until([&] { return count_events(events(), "restored") > 0 || exec.has_ended(); }));
}

void CheckpointedRunTest::expect_terminal_outlives_a_death() {
    const auto exec =
        start_exec(options(), {program("terminal"), "3"}, directory("work"), Input::terminal());
    const auto shows = [&](const std::string& text) {
        return wait_until([&] { return contains(exec->out_so_far(), text) || exec->has_ended(); });
    };
    ASSERT_TRUE(shows("terminal 1 1 1")) << exec->out_so_far();
    ASSERT_NO_FATAL_FAILURE(kill_once(*exec));
    exec->set_window(44, 122);
    shows("changed to 44 rows 122 columns");
    exec->write_input("after death\n");
    shows("typed after death");
    exec->write_input("\x03");
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.out;
    for (const char* text :
         {"changed to 44 rows 122 columns", "typed after death", "interrupted"}) {
        EXPECT_TRUE(contains(outcome.out, text)) << outcome.out;
    }
}

}  // namespace ppdsm::process_test
