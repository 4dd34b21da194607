#include "runtime/peer/replication/hosted_replica.h"

#include <algorithm>
#include <deque>
#include <string>
#include <utility>

namespace ppdsm {

namespace {
constexpr std::size_t kMaxWaitingPulls = 64;
}

/// Shared with the job under way, which may outlive the replica.
struct HostedReplica::State : std::enable_shared_from_this<State> {
    struct Task {
        std::function<void()> work;
        std::function<void()> done;
    };
    struct WaitingPull {
        GenerationOffer offer;
        std::vector<std::shared_ptr<ChunkSource>> sources;
        Done<PullReport> done;
    };
    /// What the loop's thread knows of the store.
    struct Snapshot {
        bool is_open = false;
        std::map<std::uint64_t, HeldGeneration> held;
        ReplicaStore::Usage usage;
    };

    State(Loop& on, VcPaths where, PullOptions how)
        : loop(on), paths(std::move(where)), options(how) {}

    void run(std::function<void()> work, std::function<void()> done);
    void start_next_task();
    void start_next_pull();
    void refuse(WaitingPull pull, const Error& why);
    void refuse_all(const Error& why);
    void tidy();

    Loop& loop;
    VcPaths paths;
    PullOptions options;
    std::unique_ptr<ReplicaStore> store;  ///< Touched by the job under way only.
    Snapshot fresh;                       ///< The same; taken over between jobs.
    Snapshot seen;
    std::deque<Task> tasks;
    bool busy = false;
    bool alive = true;
    std::deque<WaitingPull> waiting;
    std::shared_ptr<ReplicaPull> pull;
    std::vector<std::function<void()>> releases;  ///< Until the pull has ended.
};

void HostedReplica::State::run(std::function<void()> work, std::function<void()> done) {
    tasks.push_back({std::move(work), std::move(done)});
    if (!busy) start_next_task();
}

void HostedReplica::State::start_next_task() {
    if (tasks.empty()) return;
    busy = true;
    auto task = std::make_shared<Task>(std::move(tasks.front()));
    tasks.pop_front();
    const auto work = [self = shared_from_this(), task] {
        task->work();
        self->fresh = {};
        if (!self->store) return;
        self->fresh = {true, self->store->held(), self->store->usage()};
    };
    const auto done = [self = shared_from_this(), task] {
        self->seen = std::move(self->fresh);
        self->busy = false;
        if (!self->alive) return;
        if (task->done) task->done();
        if (self->alive && !self->busy) self->start_next_task();
    };
    loop.offload(work, done);
}

void HostedReplica::State::start_next_pull() {
    if (pull || waiting.empty() || !alive) return;
    WaitingPull next = std::move(waiting.front());
    waiting.pop_front();
    const auto run_job = [this](ReplicaPull::Work work, std::function<void()> done) {
        // release() gives the pull up before it closes the store, and jobs keep their order.
        run([self = shared_from_this(), work = std::move(work)] { work(*self->store); },
            std::move(done));
    };
    const auto ended = [this, done = std::move(next.done)](Result<PullReport> outcome) {
        const auto self = shared_from_this();
        pull.reset();
        if (!releases.empty()) {
            for (const auto& close : std::exchange(releases, {})) close();
        } else {
            tidy();
            start_next_pull();
        }
        done(std::move(outcome));
    };
    pull = std::make_shared<ReplicaPull>(loop, options, run_job, std::move(next.offer), ended);
    for (auto& source : next.sources) pull->add_source(std::move(source));
    pull->start();
}

/// What was dropped while chunks were coming, and what a broken pull has left.
void HostedReplica::State::tidy() {
    run(
        [self = shared_from_this()] {
            if (!self->store || !self->store->has_garbage()) return;
            // Fails on a full or a broken disk; the next drop() tries again and tells.
            (void)self->store->collect_garbage();
        },
        {});
}

void HostedReplica::State::refuse(WaitingPull refused, const Error& why) {
    for (const auto& source : refused.sources) {
        source->end(refused.offer.vc, refused.offer.generation);
    }
    loop.post([self = shared_from_this(), done = std::move(refused.done), why] {
        if (self->alive) done(fail(why));
    });
}

void HostedReplica::State::refuse_all(const Error& why) {
    for (WaitingPull& refused : std::exchange(waiting, {})) refuse(std::move(refused), why);
}

HostedReplica::HostedReplica(Loop& loop, VcPaths paths, PullOptions options)
    : state_(std::make_shared<State>(loop, std::move(paths), options)) {}

HostedReplica::~HostedReplica() {
    state_->alive = false;
    state_->tasks.clear();
    if (state_->pull) state_->pull->stop();
    state_->pull.reset();
    for (auto& waiting : state_->waiting) {
        for (const auto& source : waiting.sources) {
            source->end(waiting.offer.vc, waiting.offer.generation);
        }
    }
    state_->waiting.clear();
}

void HostedReplica::open(Done<void> done) {
    auto outcome = std::make_shared<Status>();
    state_->run(
        [state = state_.get(), outcome] {
            if (state->store) return;
            Result<std::unique_ptr<ReplicaStore>> opened = ReplicaStore::open(state->paths);
            if (opened) {
                state->store = std::move(*opened);
            } else {
                *outcome = fail(opened.error());
            }
        },
        [outcome, done = std::move(done)] { done(*outcome); });
}

void HostedReplica::release(Done<void> done) {
    const Error why{Code::kUnavailable, state_->paths.id() + ": the replica is being released"};
    state_->refuse_all(why);
    // Kept by the state itself: the state must not be kept by it.
    const auto close = [state = state_.get(), done = std::move(done)] {
        state->run([state] { state->store.reset(); }, [done] { done({}); });
    };
    if (!state_->pull) return close();
    // The pull's end is a job or two away; only then may the store go.
    state_->releases.push_back(close);
    state_->pull->cancel(why);
}

bool HostedReplica::is_open() const { return state_->seen.is_open; }

const std::map<std::uint64_t, HeldGeneration>& HostedReplica::held() const {
    return state_->seen.held;
}

bool HostedReplica::holds(std::uint64_t generation, const ChunkId& manifest_name) const {
    const auto found = held().find(generation);
    return found != held().end() && found->second.manifest_name == manifest_name;
}

ReplicaStore::Usage HostedReplica::usage() const { return state_->seen.usage; }

void HostedReplica::pull(GenerationOffer offer, std::vector<std::shared_ptr<ChunkSource>> sources,
                         Done<PullReport> done) {
    State::WaitingPull pull{std::move(offer), std::move(sources), std::move(done)};
    const std::string what =
        pull.offer.vc + ", generation " + std::to_string(pull.offer.generation);
    if (!is_open() || !state_->releases.empty()) {
        return state_->refuse(std::move(pull),
                              {Code::kUnavailable, what + ": the replica is not open"});
    }
    if (state_->waiting.size() >= kMaxWaitingPulls) {
        return state_->refuse(std::move(pull),
                              {Code::kOverloaded, what + ": too many generations are waiting"});
    }
    state_->waiting.push_back(std::move(pull));
    state_->start_next_pull();
}

void HostedReplica::add_source(std::uint64_t generation, std::shared_ptr<ChunkSource> source) {
    if (state_->pull && state_->pull->generation() == generation) {
        return state_->pull->add_source(std::move(source));
    }
    for (State::WaitingPull& waiting : state_->waiting) {
        if (waiting.offer.generation != generation) continue;
        waiting.sources.push_back(std::move(source));
        return;
    }
}

void HostedReplica::cancel(std::uint64_t generation) {
    const Error why{Code::kUnavailable, state_->paths.id() + ", generation " +
                                            std::to_string(generation) + ": cancelled"};
    if (state_->pull && state_->pull->generation() == generation) state_->pull->cancel(why);
    std::deque<State::WaitingPull> kept;
    for (State::WaitingPull& waiting : std::exchange(state_->waiting, {})) {
        if (waiting.offer.generation == generation) {
            state_->refuse(std::move(waiting), why);
        } else {
            kept.push_back(std::move(waiting));
        }
    }
    state_->waiting = std::move(kept);
}

void HostedReplica::drop(std::vector<std::uint64_t> generations, Done<void> done) {
    auto outcome = std::make_shared<Status>();
    state_->run(
        [state = state_.get(), outcome, generations = std::move(generations)] {
            *outcome = state->store ? state->store->drop(generations)
                                    : fail(Code::kUnavailable, "the replica is not open");
        },
        [outcome, done = std::move(done)] { done(*outcome); });
}

}  // namespace ppdsm
