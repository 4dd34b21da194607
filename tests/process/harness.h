// The process tests' ground: a world of its own for every test (state directory, working
// directories, a marker in the environment), child processes whose output is captured, runs of a
// program plain and under `ppdsm exec`, and comparisons that say where two runs part.
//
// Policy: a test waits for conditions with generous deadlines and never asserts how long anything
// took. A world is removed when its test passes, kept and named when it fails. Whatever a test
// leaves running or mounted is a failure of that test. Everything here belongs to the test's main
// thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/process/child_process.h"

namespace ppdsm::process_test {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;
using Seconds = std::chrono::duration<double>;

/// No step of a test may take longer; far above what any takes on a busy machine.
inline constexpr Seconds kDeadline{60};

/// Polls until `predicate` holds (true) or the deadline has passed (false).
bool wait_until(const std::function<bool()>& predicate, Seconds deadline = kDeadline);

/// Random choices of a test. The seed is fixed for each test by its name, or PPDSM_TEST_SEED; it is
/// printed with the way to repeat it.
class Rng {
public:
    Rng();
    /// Uniform in [0, 1).
    double fraction();

private:
    std::mt19937_64 engine_;
};

/// The files below a directory, by relative path: kind, permissions, owner and content.
using Tree = std::map<std::string, std::string>;
Tree read_tree(const fs::path& directory);

/// Empty when equal; otherwise the first difference with its surroundings.
std::string text_difference(std::string_view expected, std::string_view actual);
std::string tree_difference(const Tree& expected, const Tree& actual);
std::string outcome_difference(const Outcome& expected, const Outcome& actual);
/// For `EXPECT_TRUE(none(..._difference(...)))`: fails with the difference as people read it.
testing::AssertionResult none(const std::string& difference);

[[nodiscard]] inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

/// What the program wrote to stderr: the lines that do not start with "ppdsm:".
std::string without_own_messages(std::string_view err);

/// Text that compresses about as well as prose, the same for the same size.
void write_prose(const fs::path& path, std::size_t size_bytes);
void write_text(const fs::path& path, std::string_view text, unsigned mode = 0644);
std::string read_whole(const fs::path& path);

/// One virtual computer as `ppdsm ps --json` shows it.
struct VcStatus {
    std::string id, name, state;
    std::uint64_t generation = 0;
    std::vector<pid_t> pids;  ///< On the host.
    pid_t root_pid = 0, init_pid = 0, executor_pid = 0;

    /// Its program does: some process of it, the root process or what that left behind.
    [[nodiscard]] bool runs() const { return executor_pid > 0 && init_pid > 0 && pids.size() > 1; }
};

/// A line of the `--events` file: its kind ("checkpoint_committed") and all its fields.
struct Event {
    std::string kind;
    nlohmann::json fields;
};
/// Whole lines only: the last may still be being written. A line that is no JSON fails the test.
std::vector<Event> read_events(const fs::path& path);
std::size_t count_events(const fs::path& path, std::string_view kind);

/// The state of a host process by /proc ('R', 'S', 'T', 'Z' ...); 0 when there is none.
char process_state(pid_t pid);
/// The first of these commands that PATH does not have, if any.
std::optional<std::string> missing_command(const std::vector<std::string>& commands);

class ProcessTest : public testing::Test {
protected:
    void SetUp() override;
    void TearDown() override;

    [[nodiscard]] const fs::path& world() const { return world_; }
    [[nodiscard]] fs::path home() const { return world_ / "home"; }
    /// From now on everything that is started here is an ordinary user's, and this world is his.
    void become_ordinary_user();
    /// Makes what a test put below `path` the user's.
    void hand_over(const fs::path& path) const;
    /// A directory of this world, made when asked for first.
    fs::path directory(const std::string& name);
    /// The path of one of tests/process/programs.
    static std::string program(const std::string& name);
    /// The command under test.
    static std::string ppdsm();

    /// The environment of everything that is started here.
    std::map<std::string, std::string>& environment() { return environment_; }

    virtual std::unique_ptr<ChildProcess> start(const Arguments& argv, const fs::path& cwd,
                                                Input input = {});
    /// `ppdsm exec OPTIONS -- ARGV` in `cwd`.
    std::unique_ptr<ChildProcess> start_exec(const Arguments& options, const Arguments& argv,
                                             const fs::path& cwd, Input input = {});
    /// Runs to its end, and until every process that it left behind has ended too.
    Outcome run_plain(const Arguments& argv, const fs::path& cwd, Input input = {});
    Outcome run_exec(const Arguments& options, const Arguments& argv, const fs::path& cwd,
                     Input input = {});
    /// Any other verb: `ppdsm ARGUMENTS`.
    Outcome run_ppdsm(const Arguments& arguments);

    std::vector<VcStatus> list_vcs();
    /// By name or id.
    std::optional<VcStatus> find_vc(const std::string& name);
    /// Waits until the VC runs and has committed a generation >= `least`.
    std::optional<VcStatus> running_vc(const std::string& name, std::uint64_t least_generation = 0);

    /// Host pids of all processes that carry this test's marker.
    std::vector<pid_t> own_processes() const;
    /// Fails when a process with this test's marker or a mount below its world remains; removes it.
    void assert_no_leftovers();

private:
    void remove_leftover_mounts();

    fs::path world_;
    std::string id_;
    bool is_ordinary_user_ = false;
    std::map<std::string, std::string> environment_;
};

/// Runs that are called "job", are checkpointed often and tell their events.
class CheckpointedRunTest : public ProcessTest {
protected:
    [[nodiscard]] fs::path events() const { return world() / "events.jsonl"; }
    [[nodiscard]] Arguments options(const Arguments& more = {}) const {
        Arguments all = {"--checkpoint-every", "300ms", "--name", "job", "--events", events()};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    /// Kills the program's root process once so many generations are there; returns when it is
    /// back.
    void kill_once(ChildProcess& exec, std::uint64_t generation = 1);
    /// Window size, typed text and Ctrl-C reach a program that was killed and brought back.
    void expect_terminal_outlives_a_death();
};

}  // namespace ppdsm::process_test
