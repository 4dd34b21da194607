// Gives out the chunks of one virtual computer's generations, from a directory that another process
// (the executor) is writing: reads only, sees new packs at each begin(), and pins the generations
// while one of them is being served, so that garbage collection cannot take what is being sent.
//
// Pinned, an executor's clean-up waits for the next generation: end() what was begun.
//
// On the loop's thread; one job at a time on a thread of the pool, requests in order. It is a
// ChunkSource for pulls within the process.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "dsm/io/loop.h"
#include "runtime/peer/home.h"
#include "runtime/peer/replication/chunk_source.h"
#include "runtime/peer/replication/generation_offer.h"

namespace ppdsm {

class ChunkServer : public ChunkSource {
public:
    /// Requests that wait for the one under way; more are refused with kOverloaded.
    static constexpr std::size_t kMaxWaiting = 256;

    ChunkServer(Loop& loop, VcPaths paths);
    /// Calls back no more. The pin is given up when the job under way ends.
    ~ChunkServer() override;
    ChunkServer(const ChunkServer&) = delete;
    ChunkServer& operator=(const ChunkServer&) = delete;

    /// Pins the generation and makes its offer. May be called several times for one generation (for
    /// several peers that pull it); each needs its end(). kNotFound: no such generation.
    void begin(std::uint64_t generation, std::function<void(Result<GenerationOffer>)> done);
    void end(std::uint64_t generation);
    /// Whether begin() is ahead of end() for some generation.
    [[nodiscard]] bool serving() const;
    /// Gives back the memory of the index (40 bytes a chunk) when nothing is being served.
    void close_when_idle();

    // ChunkSource. Of generations that are not begun: kNotFound. Errors travel within the answer
    // too: what the callback gets may be sent as it is.
    [[nodiscard]] std::string name() const override;
    void request(ChunkRequest request, OnBatch answer) override;
    void request_manifest(ManifestRequest request, OnPiece answer) override;
    void end(const std::string& vc, std::uint64_t generation) override;

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace ppdsm
