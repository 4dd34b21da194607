// Memory with a ring in it that forked processes share.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <string>
#include <utility>

#include "dsm/core/rings/ring_reader.h"
#include "dsm/core/rings/ring_writer.h"

namespace ppdsm::rings {

class SharedMemory {
public:
    explicit SharedMemory(std::size_t size_bytes)
        : size_bytes_(size_bytes),
          memory_(::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                         -1, 0)) {
        if (memory_ == MAP_FAILED) std::abort();
    }
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;
    ~SharedMemory() { ::munmap(memory_, size_bytes_); }

    [[nodiscard]] void* get() const { return memory_; }
    [[nodiscard]] std::size_t size_bytes() const { return size_bytes_; }

private:
    std::size_t size_bytes_;
    void* memory_;
};

class SharedRing {
public:
    explicit SharedRing(std::uint32_t capacity_bytes = kMinCapacityBytes, std::uint32_t epoch = 1,
                        std::uint64_t first_sequence = 1)
        : memory_(ring_bytes(capacity_bytes)) {
        EXPECT_TRUE(format_ring(memory_.get(), capacity_bytes, epoch, first_sequence));
    }

    [[nodiscard]] void* memory() const { return memory_.get(); }
    [[nodiscard]] std::size_t size_bytes() const { return memory_.size_bytes(); }
    [[nodiscard]] RingControl& control() const { return *static_cast<RingControl*>(memory_.get()); }
    [[nodiscard]] RingWriter writer() const {
        RingWriter writer;
        EXPECT_EQ(writer.attach(memory_.get(), size_bytes()), RingCode::kDone);
        return writer;
    }
    [[nodiscard]] RingReader reader() const {
        RingReader reader;
        EXPECT_EQ(reader.attach(memory_.get(), size_bytes()), RingCode::kDone);
        return reader;
    }

private:
    SharedMemory memory_;
};

inline constexpr std::uint16_t kTextKind = 7;

inline RingCode write_text(RingWriter& writer, const std::string& text) {
    return writer.try_write(kTextKind, text.data(), static_cast<std::uint32_t>(text.size()));
}

/// Takes it.
inline std::pair<RingCode, std::string> read_text(RingReader& reader) {
    Frame frame;
    const RingCode code = reader.try_peek(frame);
    if (code != RingCode::kDone) return {code, ""};
    std::string text(frame.size_bytes, '\0');
    frame.copy_to(text.data());
    reader.take();
    return {code, text};
}

inline std::pair<RingCode, std::string> got(std::string text) {
    return {RingCode::kDone, std::move(text)};
}

}  // namespace ppdsm::rings
