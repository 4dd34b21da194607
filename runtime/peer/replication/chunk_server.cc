#include "runtime/peer/replication/chunk_server.h"

#include <deque>
#include <utility>

#include "runtime/peer/replication/generation_reader.h"

namespace ppdsm {

/// Shared with the job under way, which may outlive the server.
struct ChunkServer::State : std::enable_shared_from_this<State> {
    struct Task {
        std::function<void(GenerationReader&)> work;  ///< On a thread of the pool.
        std::function<void()> done;                   ///< On the loop's thread.
    };

    State(Loop& on, VcPaths where) : loop(on), paths(where), reader(std::move(where)) {}

    void run(Task task) {
        waiting.push_back(std::move(task));
        if (!busy) start_next();
    }

    void start_next() {
        if (waiting.empty()) return;
        busy = true;
        auto task = std::make_shared<Task>(std::move(waiting.front()));
        waiting.pop_front();
        loop.offload([self = shared_from_this(), task] { task->work(self->reader); },
                     [self = shared_from_this(), task] {
                         self->busy = false;
                         if (self->alive && task->done) task->done();
                         self->start_next();
                     });
    }

    Loop& loop;
    VcPaths paths;
    GenerationReader reader;
    std::deque<Task> waiting;
    bool busy = false;
    bool alive = true;
    std::size_t begun = 0;  ///< Calls of begin() that succeeded or may, less those of end().
};

ChunkServer::ChunkServer(Loop& loop, VcPaths paths)
    : state_(std::make_shared<State>(loop, std::move(paths))) {}

ChunkServer::~ChunkServer() {
    state_->alive = false;
    state_->waiting.clear();
}

void ChunkServer::begin(std::uint64_t generation,
                        std::function<void(Result<GenerationOffer>)> done) {
    auto offer =
        std::make_shared<Result<GenerationOffer>>(fail(Code::kUnavailable, "not looked at yet"));
    ++state_->begun;
    state_->run(
        {[offer, generation](GenerationReader& reader) { *offer = reader.begin(generation); },
         [state = state_.get(), offer, done = std::move(done)] {
             if (!*offer) --state->begun;
             done(std::move(*offer));
         }});
}

void ChunkServer::end(std::uint64_t generation) {
    if (state_->begun > 0) --state_->begun;
    state_->run({[generation](GenerationReader& reader) { reader.end(generation); }, {}});
}

bool ChunkServer::serving() const { return state_->begun > 0; }

void ChunkServer::close_when_idle() {
    state_->run({[](GenerationReader& reader) { reader.close_when_idle(); }, {}});
}

std::string ChunkServer::name() const { return state_->paths.directory.string(); }

void ChunkServer::request(ChunkRequest request, OnBatch answer) {
    auto batch = std::make_shared<ChunkBatch>();
    const bool refused = state_->waiting.size() >= kMaxWaiting;
    auto work = [batch, request = std::move(request)](GenerationReader& reader) {
        *batch = reader.read(request);
    };
    auto done = [batch, answer = std::move(answer)] { answer(std::move(*batch)); };
    if (!refused) return state_->run({std::move(work), std::move(done)});
    *batch = refuse_request({Code::kOverloaded, name() + ": too many requests are waiting"});
    state_->loop.post([state = state_, done = std::move(done)] {
        if (state->alive) done();
    });
}

void ChunkServer::request_manifest(ManifestRequest request, OnPiece answer) {
    auto piece = std::make_shared<ManifestPiece>();
    const bool refused = state_->waiting.size() >= kMaxWaiting;
    auto work = [piece, request = std::move(request)](GenerationReader& reader) {
        *piece = reader.read_manifest(request);
    };
    auto done = [piece, answer = std::move(answer)] { answer(std::move(*piece)); };
    if (!refused) return state_->run({std::move(work), std::move(done)});
    *piece = refuse_manifest({Code::kOverloaded, name() + ": too many requests are waiting"});
    state_->loop.post([state = state_, done = std::move(done)] {
        if (state->alive) done();
    });
}

void ChunkServer::end(const std::string& vc, std::uint64_t generation) {
    if (vc == state_->paths.id()) end(generation);
}

}  // namespace ppdsm
