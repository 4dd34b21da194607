// A ring of a virtual thread's image: its programs may have written anything into it, and the
// daemon that restores it seals it and may read it out.
#include <algorithm>
#include <vector>

#include "dsm/core/rings/error.h"
#include "dsm/core/rings/ring_reader.h"
#include "dsm/core/rings/ring_writer.h"
#include "dsm/core/rings/seal.h"
#include "tests/fuzz/formats.h"

namespace ppdsm::fuzz {

namespace {

using namespace rings;

/// Bytes at a cache line.
class RingMemory {
public:
    explicit RingMemory(std::size_t size_bytes)
        : lines_((size_bytes + kLineBytes - 1) / kLineBytes), size_bytes_(size_bytes) {}
    [[nodiscard]] std::uint8_t* get() { return lines_.empty() ? nullptr : lines_[0].bytes; }
    [[nodiscard]] std::size_t size_bytes() const { return size_bytes_; }
    [[nodiscard]] Bytes bytes() { return {get(), get() + size_bytes_}; }

private:
    struct alignas(kLineBytes) Line {
        std::uint8_t bytes[kLineBytes] = {};
    };
    std::vector<Line> lines_;
    std::size_t size_bytes_;
};

struct KeptFrame {
    std::uint16_t kind = 0;
    Bytes payload;
};

/// What a sealed ring says.
struct KeptRing {
    std::uint32_t capacity_bytes = 0;
    std::uint32_t epoch = 0;
    std::uint64_t first_sequence = 0;
    std::vector<KeptFrame> frames;
    std::uint32_t next_epoch = 0;
};

Bytes encode(const KeptRing& ring) {
    RingMemory memory(ring_bytes(ring.capacity_bytes));
    format_ring(memory.get(), ring.capacity_bytes, ring.epoch, ring.first_sequence);
    RingWriter writer;
    writer.attach(memory.get(), memory.size_bytes());
    for (const KeptFrame& frame : ring.frames) {
        writer.try_write(frame.kind, frame.payload.data(),
                         static_cast<std::uint32_t>(frame.payload.size()));
    }
    Seal seal;
    seal_ring(memory.get(), memory.size_bytes(), ring.next_epoch, seal);
    return memory.bytes();
}

Result<KeptRing> decode(ByteView bytes) {
    RingMemory memory(bytes.size());
    std::copy(bytes.begin(), bytes.end(), memory.get());
    RingView view;
    PPDSM_TRY(ring_status(view.attach(memory.get(), memory.size_bytes()), "attach"));
    Seal seal;
    PPDSM_TRY(
        ring_status(seal_ring(memory.get(), memory.size_bytes(), view.epoch() + 1, seal), "seal"));
    RingReader reader;
    PPDSM_TRY(ring_status(reader.attach(memory.get(), memory.size_bytes()), "read"));
    KeptRing ring{view.capacity_bytes(), view.epoch(), reader.next_sequence(), {}, seal.next_epoch};
    Frame frame;
    RingCode code = RingCode::kDone;
    while ((code = reader.try_peek(frame)) == RingCode::kDone) {
        Bytes payload(frame.size_bytes);
        frame.copy_to(payload.data());
        ring.frames.push_back({frame.kind, std::move(payload)});
        reader.take();
    }
    if (code != RingCode::kSealed) return fail(ring_status(code, "read").error());
    return ring;
}

KeptRing a_ring() {
    return {kMinCapacityBytes, 4, 17, {{1, {1, 2, 3}}, {2, {}}, {1, Bytes(1000, 9)}}, 5};
}

}  // namespace

void add_ring_formats(std::vector<Format>& all) {
    all.push_back(format_of("ring", a_ring(), encode, decode));
}

}  // namespace ppdsm::fuzz
