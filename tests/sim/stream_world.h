// A stream between two virtual threads on three peers: their cores as they are, real rings, a relay
// that loses what is under way when it breaks, a mover, snapshots and roll-backs. One random step
// at a time; what takes time in life is any number of other steps here.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dsm/core/rings/ring_move.h"
#include "dsm/core/rings/ring_reader.h"
#include "dsm/core/rings/ring_writer.h"
#include "dsm/core/rings/stream_receiver.h"
#include "dsm/core/rings/stream_sender.h"
#include "runtime/core/seeded_random.h"

namespace ppdsm::sim {

/// What happened, so that a test can tell that it tested something.
struct StreamCounts {
    std::uint64_t by_ring = 0;
    std::uint64_t by_relay = 0;
    std::uint64_t moves = 0;
    std::uint64_t failed_moves = 0;
    std::uint64_t mover_deaths = 0;
    std::uint64_t roll_backs = 0;
    std::uint64_t broken_links = 0;
};

class StreamWorld {
public:
    StreamWorld(std::uint64_t seed, std::uint64_t messages);

    /// `with_faults`: moves, deaths and broken links, too; without, what is left arrives.
    void step(bool with_faults);
    [[nodiscard]] bool is_complete() const;
    /// Empty: all is well so far. Else what is not.
    [[nodiscard]] const std::string& wrong() const { return wrong_; }
    [[nodiscard]] const StreamCounts& counts() const { return counts_; }
    [[nodiscard]] std::string describe() const;

private:
    using Peer = std::uint32_t;
    static constexpr Peer kPeers = 3;
    static constexpr std::size_t kRingBytes = rings::ring_bytes(rings::kMinCapacityBytes);
    struct alignas(rings::kLineBytes) RingMemory {
        std::array<std::uint8_t, kRingBytes> bytes{};
    };
    /// By epoch. Ends on one peer share the memory; one that moved has its own copy.
    using Rings = std::map<std::uint32_t, std::shared_ptr<RingMemory>>;

    struct Sender {
        explicit Sender(std::size_t window_bytes) : core(window_bytes) {}
        rings::StreamSender core;
        std::uint64_t next_number = 1;  ///< The program's own: what it sends are numbers.
        std::optional<Bytes> putting;
        Rings rings;
        Peer peer = 0;
        bool is_frozen = false;
    };
    struct Receiver {
        explicit Receiver(std::size_t most_held_bytes) : core(most_held_bytes) {}
        rings::StreamReceiver core;
        std::vector<std::uint64_t> numbers;  ///< What the program got.
        std::optional<std::uint32_t> reads_ring;
        Rings rings;
        Peer peer = 0;
        bool is_frozen = false;
    };
    struct Image {
        Sender sender;
        Receiver receiver;
    };
    /// A move under way, and what its effects will come to.
    struct Move {
        explicit Move(std::set<rings::RingId> ids) : core(std::move(ids)) {}
        bool of_receiver = false;
        Peer target = 0;
        rings::RingMove core;
        std::deque<rings::move::Event> coming;
        bool is_committed = false;  ///< In the commit log.
        Rings cut;
    };

    void sender_step();
    void receiver_step();
    void relay_step();
    void move_step();
    void fault_step();
    void do_effects(rings::StreamSender::Effects effects);
    void do_effects(rings::StreamReceiver::Effects effects);
    void do_effects(const rings::RingMove::Effects& effects);
    void open_ring(const rings::StreamPosition& begin);
    void begin_move();
    void kill_mover();
    void resume(rings::Place at);
    void take_snapshot();
    void roll_back();
    void break_link();
    bool seal(RingMemory& memory);
    static Rings copy_of(const Rings& rings);
    static Image copy_of(const Image& image);
    [[nodiscard]] Rings& moving_rings();
    void complain(const std::string& what);

    SeededRandom random_;
    std::uint64_t messages_;
    Sender sender_;
    Receiver receiver_;
    Image snapshot_;
    std::optional<Move> move_;
    bool is_linked_ = false;
    std::deque<rings::RelayFrame> to_receiver_;
    std::deque<rings::StreamPosition> to_sender_;
    std::string wrong_;
    StreamCounts counts_;
};

}  // namespace ppdsm::sim
