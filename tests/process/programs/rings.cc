// Two processes that talk through message rings and a blob area in shared memory; now the one, now
// the other lets its partner wait, so that a freeze finds them spinning, asleep on a futex, or in
// the middle of a message. Waits have a deadline that must not pass because of a checkpoint.
#include <sys/mman.h>
#include <sys/wait.h>

#include <cstring>

#include "common.h"
#include "dsm/core/rings/blob_area.h"
#include "dsm/core/rings/ring_set.h"

using namespace ppdsm;
using namespace ppdsm::rings;

namespace {

constexpr std::uint32_t kCapacityBytes = 4096;
constexpr std::uint32_t kSlots = 4;
constexpr std::uint16_t kNumbers = 1;
constexpr std::int64_t kHourNs = std::int64_t{3600} * 1'000'000'000;

void* share(std::size_t size_bytes) {
    void* memory =
        mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    return memory;
}

/// One way between the two.
struct Way {
    Way() {
        REQUIRE(format_ring(ring, kCapacityBytes, 1, 1));
        REQUIRE(format_blob_area(area, kSlots));
        REQUIRE(writer.attach(ring, ring_bytes(kCapacityBytes)) == RingCode::kDone);
        REQUIRE(reader.attach(ring, ring_bytes(kCapacityBytes)) == RingCode::kDone);
        REQUIRE(blob_writer.attach(area, blob_area_bytes(kSlots)) == RingCode::kDone);
        REQUIRE(blob_reader.attach(area, blob_area_bytes(kSlots)) == RingCode::kDone);
    }

    void send(int round, uint64_t sum) {
        unsigned char numbers[700];
        uint64_t state = sum;
        const std::size_t size = 8 + static_cast<std::size_t>(round) * 37 % 600;
        fill_random(numbers, size, &state);
        REQUIRE(writer.write(kNumbers, numbers, static_cast<std::uint32_t>(size),
                             Deadline::after_ns(kHourNs)) == RingCode::kDone);
    }
    void send_large(uint64_t sum) {
        Blob blob;
        REQUIRE(blob_writer.allocate(3 * kSlotBytes / 2, blob, Deadline::after_ns(kHourNs)) ==
                RingCode::kDone);
        uint64_t state = sum;
        fill_random(blob.bytes, blob.ref.size_bytes, &state);
        REQUIRE(BlobWriter::write(writer, blob) == RingCode::kDone);
    }
    uint64_t receive(uint64_t sum) {
        Frame frame;
        REQUIRE(reader.peek(frame, Deadline::after_ns(kHourNs)) == RingCode::kDone);
        return use(frame, sum);
    }
    uint64_t use(const Frame& frame, uint64_t sum) {
        sum = checksum(sum, &frame.sequence, sizeof frame.sequence);
        if (frame.kind == kBlobKind) {
            Blob blob;
            REQUIRE(blob_reader.open(frame, blob) == RingCode::kDone);
            reader.take();
            sum = checksum(sum, blob.bytes, blob.ref.size_bytes);
            blob_reader.release(blob);
        } else {
            unsigned char numbers[700];
            REQUIRE(frame.size_bytes <= sizeof numbers);
            frame.copy_to(numbers);
            reader.take();
            sum = checksum(sum, numbers, frame.size_bytes);
        }
        return sum;
    }

    void* ring = share(ring_bytes(kCapacityBytes));
    void* area = share(blob_area_bytes(kSlots));
    RingWriter writer;
    RingReader reader;
    BlobWriter blob_writer;
    BlobReader blob_reader;
};

/// Several messages at a time, more than the ring holds, so that writers wait, too.
constexpr int kBurst = 30;

/// Waits for a second sender, too, who has little to say.
void answer(Way& there, Way& second, Way& back, int rounds) {
    RingSet set;
    REQUIRE(set.add(there.reader) && set.add(second.reader));
    uint64_t sum = kSumStart;
    uint64_t second_sum = kSumStart;
    for (int round = 0; round < rounds; ++round) {
        if (round % 3 == 1) pace_ms(12);
        for (int left = kBurst + (round % 10 == 9 ? 1 : 0); left > 0; --left) {
            Frame frame;
            RingReader* from = nullptr;
            REQUIRE(set.peek(frame, from, Deadline::after_ns(kHourNs)) == RingCode::kDone);
            if (from == &there.reader) sum = there.use(frame, sum);
            if (from == &second.reader) second_sum = second.use(frame, second_sum);
        }
        sum += second_sum;
        if (round % 3 == 2) pace_ms(12);
        back.send(round, sum);
        if (round % 5 == 0) back.send_large(sum);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 60);
    Way there;
    Way second;
    Way back;
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) {
        answer(there, second, back, rounds);
        _exit(7);
    }
    uint64_t sum = kSumStart;
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < kBurst; ++i) {
            if (i % 10 == 9) {
                there.send_large(sum + static_cast<uint64_t>(i));
            } else {
                there.send(round + i, sum);
            }
        }
        if (round % 10 == 9) second.send(round, sum);
        sum = back.receive(sum);
        if (round % 5 == 0) sum = back.receive(sum);
        say("round %d sum %016llx", round, static_cast<unsigned long long>(sum));
        if (round % 3 == 0) pace_ms(12);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    say("child %d", WEXITSTATUS(status));
    return 0;
}
