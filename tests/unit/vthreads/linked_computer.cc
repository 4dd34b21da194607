#include "tests/unit/vthreads/linked_computer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "runtime/peer/vthreads/call_codec.h"

namespace ppdsm {

namespace fs = std::filesystem;
using namespace switchboard;

namespace {

std::int64_t now_us() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

std::string describe(int status) {
    if (WIFSIGNALED(status)) return std::string("killed by SIG") + sigabbrev_np(WTERMSIG(status));
    return "exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

LinkedComputer::LinkedComputer(fs::path directory, std::vector<std::string> command)
    : directory_(std::move(directory)), command_(std::move(command)) {}

LinkedComputer::~LinkedComputer() {
    for (auto& [thread, process] : processes_) {
        process.link.reset();
        ::kill(process.pid, SIGKILL);
        if (process.waiter.joinable()) process.waiter.join();
    }
}

fs::path LinkedComputer::page_of(ThreadId thread) const {
    return directory_ / ("link-" + std::to_string(static_cast<std::uint64_t>(thread)));
}

LinkedComputer::Outcome LinkedComputer::run() {
    step(WorkerJoined{"here"});
    start(kRootThread);
    while (!over_) {
        take(next_news());
        if (random_ && (*random_)() % 16 == 0) replace_link();
    }
    outcome_.out = read_text(directory_ / "out").value_or("");
    outcome_.err = read_text(directory_ / "err").value_or("");
    return outcome_;
}

void LinkedComputer::start(ThreadId thread) {
    ASSERT_TRUE(create_call_page(page_of(thread), thread));
    attach(thread);
    Process& process = processes_[thread];
    ++outcome_.processes;
    const bool is_root = thread == kRootThread;
    std::vector<char*> arguments;
    for (std::string& each : command_) arguments.push_back(each.data());
    arguments.push_back(nullptr);
    const std::string link = "PPDSM_LINK=" + page_of(thread).string();
    const std::string preload = std::string("LD_PRELOAD=") + PPDSM_RUNTIME_LIBRARY;
    const std::string out = (directory_ / (is_root ? "out" : "spawned-out")).string();
    const std::string err = (directory_ / "err").string();
    process.pid = ::fork();
    if (process.pid == 0) {
        ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), 1);
        ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), 2);
        ::putenv(const_cast<char*>(link.c_str()));
        ::putenv(const_cast<char*>(preload.c_str()));
        if (!is_root) ::putenv(const_cast<char*>("PPDSM_SPAWNED=1"));
        ::execv(arguments[0], arguments.data());
        ::_exit(126);
    }
    process.waiter = std::thread([this, thread, pid = process.pid] {
        int status = 0;
        ::waitpid(pid, &status, 0);
        tell(ProcessEnded{thread, status});
    });
    step(Placed{thread, "here"});
}

void LinkedComputer::attach(ThreadId thread) {
    auto link = CallLink::attach(
        page_of(thread),
        {.on_call = [this, thread](Bytes bytes) { tell(CallCame{thread, std::move(bytes)}); },
         .on_broken = [this,
                       thread](const Error& why) { tell(LinkBroke{thread, why.message()}); }});
    ASSERT_TRUE(link) << link.error().message();
    processes_[thread].link = *std::move(link);
}

void LinkedComputer::replace_link() {
    auto each = processes_.begin();
    std::advance(each, (*random_)() % processes_.size());
    auto& [thread, process] = *each;
    if (process.link == nullptr) return;
    siginfo_t stopped{};
    ::kill(process.pid, SIGSTOP);
    // Its end, if that comes first, is for its waiter.
    ::waitid(P_PID, static_cast<id_t>(process.pid), &stopped, WSTOPPED | WEXITED | WNOWAIT);
    process.link.reset();
    attach(thread);
    ::kill(process.pid, SIGCONT);
    ++outcome_.replaced;
}

void LinkedComputer::tell(News news) {
    {
        const std::lock_guard lock(mutex_);
        news_.push_back(std::move(news));
    }
    changed_.notify_one();
}

LinkedComputer::News LinkedComputer::next_news() {
    std::unique_lock lock(mutex_);
    const auto some = [this] { return !news_.empty(); };
    if (const auto tick_us = board_.next_tick_us()) {
        const std::chrono::microseconds left(std::max<std::int64_t>(*tick_us - now_us(), 0));
        if (!changed_.wait_for(lock, left, some)) return std::monostate{};
    } else {
        changed_.wait(lock, some);
    }
    News first = std::move(news_.front());
    news_.pop_front();
    return first;
}

void LinkedComputer::take(const News& news) {
    if (std::holds_alternative<std::monostate>(news)) {
        step(Tick{});
    } else if (const auto* came = std::get_if<CallCame>(&news)) {
        const Result<ThreadCall> call = decode_call(came->thread, came->bytes);
        ASSERT_TRUE(call) << call.error().message();
        step(Called{*call});
    } else if (const auto* broke = std::get_if<LinkBroke>(&news)) {
        outcome_.failure = broke->why;
        over_ = true;
    } else {
        const auto& ended = std::get<ProcessEnded>(news);
        Process& process = processes_.at(ended.thread);
        process.link.reset();
        process.waiter.join();
        processes_.erase(ended.thread);
        if (ended.thread == kRootThread) {
            outcome_.status = ended.status;
            over_ = true;
        }
        step(Gone{ended.thread, describe(ended.status)});
    }
}

void LinkedComputer::step(const Event& event) {
    std::vector<Effect> effects;
    board_.step(now_us(), event, effects);
    for (const Effect& effect : effects) {
        if (const auto* answer = std::get_if<Answer>(&effect)) {
            const auto found = processes_.find(answer->thread);
            if (found == processes_.end() || found->second.link == nullptr) continue;
            found->second.link->answer(answer->number,
                                       encode_answer(answer->number, answer->answer));
        } else if (const auto* started = std::get_if<Start>(&effect)) {
            start(started->thread);
        } else if (const auto* stop = std::get_if<Stop>(&effect)) {
            const auto found = processes_.find(stop->thread);
            if (found != processes_.end()) ::kill(found->second.pid, SIGKILL);
        } else if (const auto* failed = std::get_if<Failed>(&effect)) {
            outcome_.failure = failed->why;
            over_ = true;
        }
    }
}

}  // namespace ppdsm
