// Goal: whatever is killed, lost or said twice, a computer's virtual threads come to what they come
// to without harm. Method: small programs whose answers do not depend on who is faster, run over a
// switchboard in random order; their processes die and go on from one of the two last generations.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "tests/unit/core/switchboard_driver.h"

namespace ppdsm {
namespace {

using namespace switchboard;

constexpr int kWorkers = 4;
constexpr int kRounds = 6;
constexpr int kTasks = 9;

/// A program: its next call, from the answer to the one before. Copied, it is its memory image.
class Program {
public:
    virtual ~Program() = default;
    virtual std::optional<Call> next(const CallAnswer& last) = 0;
    [[nodiscard]] virtual std::unique_ptr<Program> copy() const = 0;
};

/// Passes numbers round a ring, reports each, and takes tasks from a mailbox that all share.
class Worker : public Program {
public:
    std::optional<Call> next(const CallAnswer& last) override {
        if (last.code == abi::kEvents) ADD_FAILURE() << "a worker has no events";
        switch (stage_++) {
            case 0: return call::Begin{};
            case 1: return call::Receive{{}, kRootThread, 1, "ring"};
            case 2: {
                const std::string ring = text_of(std::get<ThreadMessage>(last.content).value);
                left_ = ThreadId{static_cast<std::uint64_t>(ring[0])};
                right_ = ThreadId{static_cast<std::uint64_t>(ring[1])};
                sum_ = static_cast<std::uint64_t>(ring[2]);
                return call::OpenMailbox{"tasks", 3};
            }
            case 3: tasks_ = std::get<MailboxId>(last.content); [[fallthrough]];
            case 4: return round(last);
            case 5: return call::Receive{{}, left_, 2, "number"};
            case 6:
                sum_ =
                    sum_ * 31 + std::stoull(text_of(std::get<ThreadMessage>(last.content).value));
                stage_ = 4;
                return call::Report{value(std::to_string(sum_), 4)};
            case 7: return call::Receive{tasks_, {}, 3, "task"};
            case 8: {
                const std::string task = text_of(std::get<ThreadMessage>(last.content).value);
                if (task == "end") {
                    stage_ = 9;
                    return call::End{{abi::kResult, value(std::to_string(sum_))}};
                }
                stage_ = 7;
                return call::Report{value(task, 5)};
            }
            default: return std::nullopt;
        }
    }
    [[nodiscard]] std::unique_ptr<Program> copy() const override {
        return std::make_unique<Worker>(*this);
    }

private:
    std::optional<Call> round(const CallAnswer& last) {
        if (rounds_++ < kRounds) {
            stage_ = 5;
            return call::Send{right_, {}, value(std::to_string(sum_), 2)};
        }
        stage_ = 7;
        return next(last);
    }
    int stage_ = 0;
    int rounds_ = 0;
    ThreadId left_{}, right_{};
    MailboxId tasks_{};
    std::uint64_t sum_ = 0;
};

class Main : public Program {
public:
    struct Seen {
        std::map<ThreadId, std::vector<std::string>> numbers;
        std::multiset<std::string> tasks;
        std::map<ThreadId, std::string> results;
        friend bool operator==(const Seen&, const Seen&) = default;
    };
    std::optional<Call> next(const CallAnswer& last) override {
        if (last.code == abi::kEvents) {
            repeats_ = true;
            return call::NextEvent{};
        }
        if (repeats_) {
            see(std::get<ThreadEvent>(last.content));
            repeats_ = false;
            return sends_[sent_];
        }
        if (step_ == 0) {
            ++step_;
            call::Open open;
            open.options.workers = 2;
            open.options.mailbox_bytes = 200;
            return open;
        }
        if (step_ <= kWorkers) {
            if (step_ > 1) workers_.push_back(std::get<ThreadId>(last.content));
            ++step_;
            return call::Spawn{{}, {}, ""};
        }
        if (step_ == kWorkers + 1) {
            workers_.push_back(std::get<ThreadId>(last.content));
            ++step_;
            return call::OpenMailbox{"tasks", 3};
        }
        if (step_ == kWorkers + 2) {
            ++step_;
            plan(std::get<MailboxId>(last.content));
            return sends_[0];
        }
        if (sent_ + 1 < sends_.size()) return sends_[++sent_];
        if (step_++ > kWorkers + 3) see(std::get<ThreadEvent>(last.content));
        if (seen.results.size() < kWorkers) return call::NextEvent{};
        return std::nullopt;
    }
    [[nodiscard]] std::unique_ptr<Program> copy() const override {
        return std::make_unique<Main>(*this);
    }
    Seen seen;

private:
    void plan(MailboxId tasks) {
        for (std::size_t i = 0; i < workers_.size(); ++i) {
            std::string ring;
            ring += static_cast<char>(workers_[(i + workers_.size() - 1) % workers_.size()]);
            ring += static_cast<char>(workers_[(i + 1) % workers_.size()]);
            ring += static_cast<char>(i + 1);
            sends_.emplace_back(call::Send{workers_[i], {}, value(ring, 1)});
        }
        for (int i = 0; i < kTasks; ++i) {
            sends_.emplace_back(call::Send{{}, tasks, value("task " + std::to_string(i), 3)});
        }
        for (int i = 0; i < kWorkers; ++i) {
            sends_.emplace_back(call::Send{{}, tasks, value("end", 3)});
        }
    }
    void see(const ThreadEvent& event) {
        const Value& what = event.outcome.value;
        if (event.kind == abi::kEnded) {
            EXPECT_TRUE(seen.results.emplace(event.thread, text_of(what)).second);
        } else if (what.type == 4) {
            seen.numbers[event.thread].push_back(text_of(what));
        } else if (what.type == 5) {
            seen.tasks.insert(text_of(what));
        }
    }
    int step_ = 0;
    bool repeats_ = false;
    std::vector<ThreadId> workers_;
    std::vector<Call> sends_;
    std::size_t sent_ = 0;
};

struct Image {
    std::unique_ptr<Program> program;
    std::uint64_t calls = 0;  ///< Whose answers it has.
};

/// A virtual thread's process, the way to the switchboard and back, and its generations.
struct Process {
    Image now;
    std::deque<Image> generations;  ///< The oldest kept first; at most two.
    std::optional<ThreadCall> called;
    std::deque<ThreadCall> to_board;
    std::deque<Answer> to_process;
    bool exits = false;  ///< It has come to its end, which is not yet true.
    bool ended = false;
};

class Computer {
public:
    Computer(std::uint32_t seed, bool harm) : random_(seed), harm_(harm) {
        begin(kRootThread, std::make_unique<Main>());
    }
    void run() {
        for (int steps = 0; !done() && failure_.empty(); ++steps) {
            ASSERT_LT(steps, 200'000) << "it hangs";
            auto each = processes_.begin();
            std::advance(each, random_() % processes_.size());
            act(each->first, each->second);
        }
        EXPECT_EQ(failure_, "");
    }
    [[nodiscard]] const Main::Seen& seen() {
        return static_cast<Main&>(*processes_.at(kRootThread).now.program).seen;
    }
    [[nodiscard]] int kills() const { return kills_; }

private:
    bool done() { return processes_.at(kRootThread).ended; }

    void begin(ThreadId id, std::unique_ptr<Program> program) {
        Process& process = processes_[id];
        process.now = {std::move(program), 0};
        go_on(id, process, {});
        process.generations.push_back({process.now.program->copy(), 0});
        image_call_[{id, 0}] = process.called->call;
    }
    void go_on(ThreadId id, Process& process, const CallAnswer& answer) {
        std::optional<Call> call = process.now.program->next(answer);
        process.called.reset();
        if (!call) {
            process.exits = true;
            return;
        }
        const std::uint64_t digest = digest_of(*call);
        process.called = ThreadCall{id, process.now.calls + 1, -1, digest, std::move(*call)};
        process.to_board.push_back(*process.called);
    }
    void act(ThreadId id, Process& process) {
        if (process.ended) return;
        const auto dice = harm_ ? random_() % 40 : 20;
        if (dice == 0) return kill(id, process);
        if (dice < 4) return checkpoint(id, process);
        if (process.exits) {
            process.ended = true;
            return step(Gone{id, "exit code 0"});
        }
        if (dice == 4 && process.called &&
            !process.to_process.empty()) {  // Lost: the call is said again.
            process.to_process.clear();
            process.to_board.push_back(*process.called);
        } else if (dice == 5 && process.called) {
            process.to_board.push_back(*process.called);
        } else if (!process.to_process.empty()) {
            const Answer answer = std::move(process.to_process.front());
            process.to_process.pop_front();
            if (!process.called || answer.number != process.called->number) return;
            ++process.now.calls;
            go_on(id, process, answer.answer);
        } else if (!process.to_board.empty()) {
            const ThreadCall call = std::move(process.to_board.front());
            process.to_board.pop_front();
            // What was said twice may come when the answer has been used: a host sends no such.
            if (!process.called || call.number != process.called->number) return;
            step(Called{call});
        }
    }
    void kill(ThreadId id, Process& process) {
        ++kills_;
        const std::size_t chosen = random_() % process.generations.size();
        process.generations.resize(chosen + 1);
        const Image& image = process.generations.back();
        process.now = {image.program->copy(), image.calls};
        process.to_board.clear();
        process.to_process.clear();
        process.exits = false;
        step(RolledBack{id, image.calls});
        // An image is one of a process that waits for an answer.
        const Call& call = image_call_.at({id, image.calls});
        process.called = ThreadCall{id, image.calls + 1, -1, digest_of(call), call};
        process.to_board.push_back(*process.called);
    }
    void checkpoint(ThreadId id, Process& process) {
        if (!process.called || process.now.calls == process.generations.back().calls) return;
        image_call_[{id, process.now.calls}] = process.called->call;
        process.generations.push_back({process.now.program->copy(), process.now.calls});
        if (process.generations.size() > 2) process.generations.pop_front();
        step(Covered{id, process.generations.front().calls});
    }
    void step(const Event& event) {
        std::vector<Effect> effects;
        board_.step(0, event, effects);
        for (const Effect& effect : effects) {
            if (const auto* answer = std::get_if<Answer>(&effect)) {
                processes_.at(answer->thread).to_process.push_back(*answer);
            } else if (const auto* start = std::get_if<Start>(&effect)) {
                begin(start->thread, std::make_unique<Worker>());
            } else if (const auto* failed = std::get_if<Failed>(&effect)) {
                failure_ = failed->why;
            }
        }
    }

    std::minstd_rand random_;
    bool harm_;
    int kills_ = 0;
    Switchboard board_{{200, 200, 4, 10}};
    std::map<ThreadId, Process> processes_;
    /// The call that an image's process is in.
    std::map<std::pair<ThreadId, std::uint64_t>, Call> image_call_;
    std::string failure_;
};

TEST(SwitchboardRandom, HarmChangesNothing) {
    Computer calm(1, false);
    calm.run();
    ASSERT_EQ(calm.seen().results.size(), static_cast<std::size_t>(kWorkers));
    ASSERT_EQ(calm.seen().tasks.size(), static_cast<std::size_t>(kTasks));
    int kills = 0;
    for (std::uint32_t seed = 1; seed <= 2000; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Computer harmed(seed, true);
        harmed.run();
        ASSERT_EQ(harmed.seen(), calm.seen());
        if (testing::Test::HasFailure()) return;
        kills += harmed.kills();
    }
    EXPECT_GT(kills, 2000);
}

}  // namespace
}  // namespace ppdsm
