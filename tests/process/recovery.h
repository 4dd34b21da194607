// The promise at the heart of the process tests: a program that is killed again and again under
// `ppdsm exec` prints, writes and returns exactly what it does when nobody disturbs it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/process/harness.h"

namespace ppdsm::process_test {

/// Which process kill -9 hits.
enum class Victim {
    kRoot,      ///< The program's own first process; recovers by itself.
    kInit,      ///< The sandbox's pid 1, and with it the whole tree; recovers by itself.
    kExecutor,  ///< `ppdsm exec` itself; everything ends, `ppdsm resume` goes on.
};
std::string victim_name(Victim victim);

/// A program that lasts long enough to be killed (a second or more) and whose output, exit code and
/// files depend on its arguments, its input and its directory only.
struct Job {
    std::string name;
    Arguments argv;
    Input input;
    std::function<void(const fs::path& directory)> prepare;  ///< Makes its files; may be empty.
};

class RecoveryTest : public ProcessTest {
protected:
    static constexpr int kKills = 3;

    void SetUp() override;
    void expect_survives(const Job& job, Victim victim);

private:
    struct Reference {
        Outcome outcome;
        Tree files;
    };
    Reference run_undisturbed(const Job& job);
    void kill_inside(const Job& job, Victim victim, const Reference& plain);
    /// How often it was killed.
    std::size_t kill_inside_once(const Job& job, Victim victim, const Reference& plain,
                                 const std::string& label);
    void kill_executor(const Job& job, const Reference& plain);
    /// Kills the executor of the VC after a random while; false when the program has ended before.
    bool kill_executor_once(const std::string& vc, ChildProcess& executor, double longest_s);
    void expect_same(const Reference& plain, const Outcome& outcome, const fs::path& work);
    /// A random part of `longest_s`, cut short by the end of the process.
    void wait_a_while(ChildProcess& process, double longest_s);

    std::optional<Rng> rng_;
};

}  // namespace ppdsm::process_test
