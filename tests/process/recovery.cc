#include "tests/process/recovery.h"

#include <signal.h>

namespace ppdsm::process_test {
namespace {

constexpr const char* kName = "job";
const Arguments kCheckpointOften = {"--checkpoint-every", "500ms", "--name", kName};

}  // namespace

std::string victim_name(Victim victim) {
    switch (victim) {
        case Victim::kRoot: return "root";
        case Victim::kInit: return "init";
        case Victim::kExecutor: return "executor";
    }
    return "nobody";
}

void RecoveryTest::SetUp() {
    ProcessTest::SetUp();
    if (!IsSkipped()) rng_.emplace();
}

void RecoveryTest::expect_survives(const Job& job, Victim victim) {
    const Reference plain = run_undisturbed(job);
    if (HasFailure()) return;
    if (victim == Victim::kExecutor) {
        kill_executor(job, plain);
    } else {
        kill_inside(job, victim, plain);
    }
}

RecoveryTest::Reference RecoveryTest::run_undisturbed(const Job& job) {
    const fs::path directory = this->directory("plain");
    if (job.prepare) job.prepare(directory);
    hand_over(directory);
    Outcome outcome = run_plain(job.argv, directory, job.input);
    return {std::move(outcome), read_tree(directory)};
}

void RecoveryTest::wait_a_while(ChildProcess& process, double longest_s) {
    wait_until([&] { return process.has_ended(); }, Seconds(rng_->fraction() * longest_s));
}

void RecoveryTest::kill_inside(const Job& job, Victim victim, const Reference& plain) {
    // A fast machine may end a job before its first checkpoint is there: that shows nothing.
    constexpr int kTries = 5;
    std::size_t kills = 0;
    for (int i = 0; i < kTries && kills == 0 && !HasFailure(); ++i) {
        kills = kill_inside_once(job, victim, plain, std::to_string(i));
    }
    EXPECT_GE(kills, 1U) << "nothing was killed: the job is too short";
}

std::size_t RecoveryTest::kill_inside_once(const Job& job, Victim victim, const Reference& plain,
                                           const std::string& label) {
    const fs::path work = directory("work" + label), events = world() / ("events" + label);
    if (job.prepare) job.prepare(work);
    hand_over(work);
    Arguments options = kCheckpointOften;
    options.insert(options.end(), {"--events", events});
    const std::unique_ptr<ChildProcess> exec = start_exec(options, job.argv, work, job.input);

    std::size_t kills = 0;
    for (int i = 0; i < kKills && !HasFailure(); ++i) {
        // Before the first generation there is nothing to go back to; after a kill the next waits
        // until the program runs again, so that three kills are three recoveries.
        EXPECT_TRUE(wait_until([&] {
            return exec->has_ended() || (count_events(events, "checkpoint_committed") > 0 &&
                                         count_events(events, "restored") >= kills);
        })) << "after "
            << kills << " kills: neither a generation, nor a recovery, nor an end";
        wait_a_while(*exec, plain.outcome.wall_s / kKills);
        if (exec->has_ended()) break;
        const std::optional<VcStatus> vc = find_vc(kName);
        const pid_t pid = !vc || !vc->runs()        ? 0
                          : victim == Victim::kRoot ? vc->root_pid
                                                    : vc->init_pid;
        if (pid <= 0) continue;  // It is just ending.
        const char state = process_state(pid);
        if (state != 0 && state != 'Z' && kill(pid, SIGKILL) == 0) ++kills;
    }
    const Outcome outcome = exec->wait(kDeadline);
    EXPECT_GE(count_events(events, "restored"), std::min<std::size_t>(kills, 1));
    expect_same(plain, outcome, work);
    return kills;
}

bool RecoveryTest::kill_executor_once(const std::string& vc, ChildProcess& executor,
                                      double longest_s) {
    wait_a_while(executor, longest_s);
    if (executor.has_ended()) return false;
    const std::optional<VcStatus> status = find_vc(vc);
    if (!status || status->executor_pid <= 0) return false;
    return kill(status->executor_pid, SIGKILL) == 0;
}

void RecoveryTest::kill_executor(const Job& job, const Reference& plain) {
    const fs::path work = directory("work");
    if (job.prepare) job.prepare(work);
    hand_over(work);
    const Tree before = read_tree(work);
    std::unique_ptr<ChildProcess> executor =
        start_exec(kCheckpointOften, job.argv, work, job.input);
    const std::optional<VcStatus> vc = running_vc(kName, 1);
    ASSERT_TRUE(vc);

    std::string out, err;
    int kills = 0;
    for (; kills < kKills; ++kills) {
        if (!kill_executor_once(vc->id, *executor, plain.outcome.wall_s / kKills)) break;
        const Outcome part = executor->wait(kDeadline);
        if (part.exit_code != 128 + SIGKILL) {  // It was just done when the kill came.
            out += part.out, err += part.err;
            expect_same(
                plain,
                {part.exit_code, out, err, plain.outcome.out_bytes, plain.outcome.out_hash, 0},
                work);
            return;
        }
        out += part.out, err += part.err;
        EXPECT_TRUE(wait_until([&] { return own_processes().empty(); }))
            << "the executor is dead but its processes run on";
        EXPECT_TRUE(none(tree_difference(before, read_tree(work))))
            << "a run that was killed left files in the working directory";
        executor = start({ppdsm(), "resume", vc->id}, work);
        wait_until([&] {
            const std::optional<VcStatus> now = find_vc(vc->id);
            return executor->has_ended() || HasFailure() || (now && now->runs());
        });
    }
    EXPECT_GE(kills, 1) << "nothing was killed: the job is too short";
    Outcome outcome = executor->wait(kDeadline);
    outcome.out.insert(0, out), outcome.err.insert(0, err);
    // The hash of a joined stream is not known; its bytes are compared whole.
    outcome.out_bytes = plain.outcome.out_bytes, outcome.out_hash = plain.outcome.out_hash;
    expect_same(plain, outcome, work);
}

void RecoveryTest::expect_same(const Reference& plain, const Outcome& outcome,
                               const fs::path& work) {
    EXPECT_TRUE(none(outcome_difference(plain.outcome, outcome)));
    EXPECT_TRUE(none(tree_difference(plain.files, read_tree(work))));
}

}  // namespace ppdsm::process_test
