// ring_bench ring|raw: two processes, each on a core of its own, through shared memory: message
// rings, or the least that hardware allows (one word to spin on, a buffer to copy through). Prints
// one JSON object: round trip of 8 bytes, messages of 8 bytes a second, bandwidth of messages of 1
// MiB, each copied in and out.
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "dsm/base/check.h"
#include "dsm/core/rings/blob_area.h"

namespace ppdsm::rings {
namespace {

constexpr int kBatches = 200;
constexpr int kRoundTripsABatch = 500;
constexpr int kMessagesABatch = 20'000;
constexpr int kLargeABatch = 16;
constexpr int kLargeBatches = 60;
constexpr std::size_t kLargeBytes = 1 << 20;
constexpr std::uint16_t kKind = 1;

void pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    // On a machine with one core both share it.
    static_cast<void>(::sched_setaffinity(0, sizeof cores, &cores));
}

void* share(std::size_t size_bytes) {
    void* memory = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    PPDSM_CHECK(memory != MAP_FAILED);
    return memory;
}

/// Seconds that the median batch takes: others on the machine disturb some.
double median_seconds(int batches, const std::function<void()>& batch) {
    std::vector<double> seconds;
    for (int i = 0; i < batches; ++i) {
        const auto begun = std::chrono::steady_clock::now();
        batch();
        seconds.push_back(
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
    }
    std::nth_element(seconds.begin(), seconds.begin() + batches / 2, seconds.end());
    return seconds[static_cast<std::size_t>(batches / 2)];
}

void make(std::uint8_t* bytes, int value) { std::memset(bytes, value, kLargeBytes); }

bool is_made(const std::uint8_t* bytes, int value) {
    // Looks at every byte, as fast as the C library can: there is none of that value.
    return bytes[0] == value && std::memchr(bytes, 0xFF, kLargeBytes) == nullptr;
}

/// What both kinds of channel can do, from either end.
class Channel {
public:
    Channel() = default;
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    virtual ~Channel() = default;
    virtual void send(std::uint64_t value) = 0;
    virtual std::uint64_t receive() = 0;
    virtual void send_large(int value) = 0;
    virtual bool receive_large(int value) = 0;
};

class RingChannel : public Channel {
public:
    RingChannel() {
        PPDSM_CHECK(format_ring(ring_, kCapacityBytes, 1, 1));
        PPDSM_CHECK(format_blob_area(area_, kSlots));
        PPDSM_CHECK(writer_.attach(ring_, ring_bytes(kCapacityBytes)) == RingCode::kDone);
        PPDSM_CHECK(reader_.attach(ring_, ring_bytes(kCapacityBytes)) == RingCode::kDone);
        PPDSM_CHECK(blob_writer_.attach(area_, blob_area_bytes(kSlots)) == RingCode::kDone);
        PPDSM_CHECK(blob_reader_.attach(area_, blob_area_bytes(kSlots)) == RingCode::kDone);
    }
    void send(std::uint64_t value) override {
        PPDSM_CHECK(writer_.write(kKind, &value, sizeof value) == RingCode::kDone);
    }
    std::uint64_t receive() override {
        Frame frame;
        std::uint64_t value = 0;
        PPDSM_CHECK(reader_.peek(frame) == RingCode::kDone && frame.size_bytes == sizeof value);
        frame.copy_to(&value);
        reader_.take();
        return value;
    }
    void send_large(int value) override {
        Blob blob;
        PPDSM_CHECK(blob_writer_.allocate(kLargeBytes, blob) == RingCode::kDone);
        make(blob.bytes, value);
        PPDSM_CHECK(BlobWriter::write(writer_, blob) == RingCode::kDone);
    }
    bool receive_large(int value) override {
        Frame frame;
        Blob blob;
        PPDSM_CHECK(reader_.peek(frame) == RingCode::kDone);
        PPDSM_CHECK(blob_reader_.open(frame, blob) == RingCode::kDone);
        reader_.take();
        const bool is_right = is_made(blob.bytes, value);
        blob_reader_.release(blob);
        return is_right;
    }

private:
    static constexpr std::uint32_t kCapacityBytes = 64 << 10;
    static constexpr std::uint32_t kSlots = 4 * kLargeBytes / kSlotBytes;
    void* ring_ = share(ring_bytes(kCapacityBytes));
    void* area_ = share(blob_area_bytes(kSlots));
    RingWriter writer_;
    RingReader reader_;
    BlobWriter blob_writer_;
    BlobReader blob_reader_;
};

class RawChannel : public Channel {
public:
    // A line a message: nothing else needs to change hands, the sender's credit now and then apart.
    void send(std::uint64_t value) override {
        while (sent_ - credit_ == kSlots) {
            credit_ = taken_->load(std::memory_order_acquire);
            relax_cpu();
        }
        Slot& slot = slots_[sent_ % kSlots];
        slot.value = value;
        slot.number.store(++sent_, std::memory_order_release);
    }
    std::uint64_t receive() override {
        const Slot& slot = slots_[received_ % kSlots];
        ++received_;
        while (slot.number.load(std::memory_order_acquire) != received_) relax_cpu();
        const std::uint64_t value = slot.value;
        if (received_ % (kSlots / 4) == 0) taken_->store(received_, std::memory_order_release);
        return value;
    }
    void send_large(int value) override {
        Large& large = large_[large_sent_++ % 2];
        while (large.is_full.load(std::memory_order_acquire) != 0) relax_cpu();
        make(large.bytes, value);
        large.is_full.store(1, std::memory_order_release);
    }
    bool receive_large(int value) override {
        Large& large = large_[large_received_++ % 2];
        while (large.is_full.load(std::memory_order_acquire) == 0) relax_cpu();
        const bool is_right = is_made(large.bytes, value);
        large.is_full.store(0, std::memory_order_release);
        return is_right;
    }

private:
    struct alignas(kLineBytes) Slot {
        std::atomic<std::uint64_t> number;
        std::uint64_t value;
    };
    struct Large {
        alignas(4096) std::atomic<std::uint32_t> is_full;
        alignas(4096) std::uint8_t bytes[kLargeBytes];
    };
    static constexpr std::uint64_t kSlots = 64;
    Slot* slots_ = static_cast<Slot*>(share(kSlots * sizeof(Slot)));
    std::atomic<std::uint64_t>* taken_ =
        static_cast<std::atomic<std::uint64_t>*>(share(kLineBytes));
    Large* large_ = static_cast<Large*>(share(2 * sizeof(Large)));
    std::uint64_t sent_ = 0;
    std::uint64_t credit_ = 0;
    std::uint64_t received_ = 0;
    std::uint64_t large_sent_ = 0;
    std::uint64_t large_received_ = 0;
};

void answer(Channel& there, Channel& back) {
    for (int i = 0; i < kBatches * kRoundTripsABatch; ++i) back.send(there.receive());
    for (int batch = 0; batch < kBatches; ++batch) {
        for (int i = 0; i < kMessagesABatch; ++i) static_cast<void>(there.receive());
        back.send(1);
    }
    for (int batch = 0; batch < kLargeBatches; ++batch) {
        for (int i = 0; i < kLargeABatch; ++i) PPDSM_CHECK(there.receive_large(i));
        back.send(1);
    }
}

void measure(Channel& there, Channel& back) {
    const double round_trips = median_seconds(kBatches, [&] {
        for (int i = 0; i < kRoundTripsABatch; ++i) {
            there.send(static_cast<std::uint64_t>(i));
            PPDSM_CHECK(back.receive() == static_cast<std::uint64_t>(i));
        }
    });
    const double messages = median_seconds(kBatches, [&] {
        for (int i = 0; i < kMessagesABatch; ++i) there.send(1);
        static_cast<void>(back.receive());
    });
    const double large = median_seconds(kLargeBatches, [&] {
        for (int i = 0; i < kLargeABatch; ++i) there.send_large(i);
        static_cast<void>(back.receive());
    });
    std::printf("{\"round_trip_ns\": %.1f, \"messages_us\": %.3f, \"large_gbs\": %.3f}\n",
                round_trips / kRoundTripsABatch * 1e9, kMessagesABatch / messages / 1e6,
                static_cast<double>(kLargeABatch) * kLargeBytes / large / 1e9);
}

template <class Kind>
int run() {
    Kind there;
    Kind back;
    const pid_t child = ::fork();
    PPDSM_CHECK(child >= 0);
    if (child == 0) {
        pin(1);
        answer(there, back);
        ::_exit(0);
    }
    pin(0);
    measure(there, back);
    int status = 0;
    return ::waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ppdsm::rings

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "ring") return ppdsm::rings::run<ppdsm::rings::RingChannel>();
    if (what == "raw") return ppdsm::rings::run<ppdsm::rings::RawChannel>();
    std::fputs("usage: ring_bench ring|raw\n", stderr);
    return 2;
}
