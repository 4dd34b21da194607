// One pull under way: what is asked of which source, and what becomes of the answers. On the loop's
// thread; the work on the store is handed to HostedReplica's jobs.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "dsm/io/loop.h"
#include "runtime/peer/replication/chunk_source.h"
#include "runtime/peer/replication/replica_store.h"

namespace ppdsm {

struct PullOptions {
    /// Requests under way at a time: together with what is being written, bounds the memory of a
    /// pull to about twice that many messages.
    std::size_t requests_in_flight = 8;
    /// A source that owes an answer for so long is given up.
    std::uint64_t stall_ms = 10'000;
};

class ReplicaPull : public std::enable_shared_from_this<ReplicaPull> {
public:
    /// At most so many sources are used; more are ignored.
    static constexpr std::size_t kMaxSources = 32;

    using Work = std::function<void(ReplicaStore&)>;
    /// Runs `work` on a thread of the pool, then `done` on the loop's.
    using RunJob = std::function<void(Work work, std::function<void()> done)>;
    using OnEnd = std::function<void(Result<PullReport>)>;

    /// `ended` is called once, when the store is pulling no more; not after stop().
    ReplicaPull(Loop& loop, PullOptions options, RunJob run_job, GenerationOffer offer,
                OnEnd ended);

    void add_source(std::shared_ptr<ChunkSource> source);
    void start();
    void cancel(const Error& why);
    /// Forgets everything without a word to `ended`; the sources are told.
    void stop();
    [[nodiscard]] std::uint64_t generation() const { return offer_.generation; }

private:
    struct Source {
        std::shared_ptr<ChunkSource> source;
        bool alive = true;
        std::size_t requests = 0;  ///< That it owes answers for.
        std::uint64_t last_heard_ms = 0;
        std::vector<ChunkId> queue;  ///< To be asked here: others lack them.
    };
    struct Request {
        std::size_t source = 0;
        std::vector<ChunkId> names;
    };
    struct Answer {
        Request request;
        std::optional<ChunkBatch> batch;  ///< Empty: the source failed.
    };
    /// One job's questions and results.
    struct Step {
        std::vector<Answer> answers;
        std::size_t free_requests = 0;
        std::size_t names_per_request = 0;
        std::vector<Status> verdicts;               ///< Per answer.
        std::vector<std::vector<ChunkId>> lacking;  ///< Per answer.
        std::vector<std::size_t> came;              ///< Per answer.
        std::vector<std::vector<ChunkId>> next;
        std::optional<Result<PullReport>> outcome;  ///< It is over.
        static void run(Step& step, ReplicaStore& store);
    };

    void fetch_manifest();
    void ask_manifest_piece();
    void take_manifest_piece(std::size_t source, std::uint64_t offset_bytes,
                             const Result<ManifestPiece>& piece);
    void begin();
    void step();
    void take_step(Step& step);
    void send_queued();
    void send(std::size_t source, std::vector<ChunkId> names);
    void take_answer(std::uint64_t request, Result<ChunkBatch> answer);
    void relocate(std::size_t from, const std::vector<ChunkId>& names);
    void adapt(const Answer& answer, std::size_t came);
    void fail_source(std::size_t source, const Error& why);
    void give_up(const Error& why);
    void end(Result<PullReport> outcome);
    void check_stalls();
    void note_request(std::size_t source);
    [[nodiscard]] std::optional<std::size_t> choose_source() const;

    Loop& loop_;
    PullOptions options_;
    RunJob run_job_;
    GenerationOffer offer_;
    OnEnd ended_;
    std::vector<Source> sources_;
    std::unique_ptr<Timer> stall_timer_;

    Bytes manifest_;  ///< While it is being fetched: what has come, in place.
    std::map<std::uint64_t, Bytes> manifest_pieces_;
    std::uint64_t manifest_next_bytes_ = 0;  ///< Not asked for yet from here on.
    std::uint64_t manifest_try_ = 0;

    std::map<std::uint64_t, Request> requests_;  ///< Under way, by number.
    std::uint64_t next_request_ = 1;
    std::deque<Answer> answers_;                                       ///< For the next job.
    std::unordered_map<ChunkId, std::uint32_t, ChunkIdHash> lacking_;  ///< By which sources.
    std::size_t names_per_request_ = 256;
    std::uint64_t sent_bytes_ = 0;
    bool begun_ = false;  ///< The store is pulling.
    bool working_ = false;
    bool over_ = false;
    std::optional<Error> failure_;
};

}  // namespace ppdsm
