#include "criu-glue/images/image_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace ppdsm::images {
namespace {

constexpr std::uint32_t kCommonMagic = 0x54564319;
constexpr std::uint32_t kServiceMagic = 0x55105940;

// A message of two-byte fields unpacks to many times its size. Sound ones stay far below this.
constexpr std::size_t kUnpackedPerByte = 64;
constexpr std::size_t kUnpackedSlackBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxUnpackedBytes = std::size_t{1} << 30;

void* allocate_within_budget(void* budget, std::size_t bytes) {
    auto& left = *static_cast<std::size_t*>(budget);
    if (bytes > left) return nullptr;
    left -= bytes;
    return std::malloc(bytes);
}

void release(void* /*budget*/, void* memory) { std::free(memory); }

}  // namespace

void FreeMessage::operator()(void* message) const {
    ProtobufCAllocator allocator{nullptr, release, nullptr};
    ::protobuf_c_message_free_unpacked(static_cast<ProtobufCMessage*>(message), &allocator);
}

tl::unexpected<Error> corrupt(const std::string& image_name, const std::string& what) {
    return fail(Code::kCorrupt, image_name + ": " + what);
}

Result<RecordReader> RecordReader::open(std::string image_name, ByteView bytes, Magic magic) {
    RecordReader reader(std::move(image_name), bytes);
    if (magic != Magic::kInventory) {
        const std::uint32_t family = magic == Magic::kStatistics ? kServiceMagic : kCommonMagic;
        PPDSM_ASSIGN(const std::uint32_t first, reader.next_number());
        if (first != family) {
            return corrupt(reader.image_name_,
                           fmt::format("begins with {:#010x} instead of {:#010x}: not an image of "
                                       "CRIU 2 or newer",
                                       first, family));
        }
    }
    PPDSM_ASSIGN(const std::uint32_t found, reader.next_number());
    if (found != static_cast<std::uint32_t>(magic)) {
        return corrupt(reader.image_name_,
                       fmt::format("holds an image of another kind ({:#010x} instead of {:#010x})",
                                   found, static_cast<std::uint32_t>(magic)));
    }
    return reader;
}

Result<std::uint32_t> RecordReader::next_number() {
    PPDSM_ASSIGN(const ByteView bytes, raw(4));
    return static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1]) << 8 |
           static_cast<std::uint32_t>(bytes[2]) << 16 | static_cast<std::uint32_t>(bytes[3]) << 24;
}

Result<ByteView> RecordReader::raw(std::uint64_t size_bytes) {
    if (size_bytes > bytes_.size() - position_) {
        return corrupt(image_name_, fmt::format("ends early: {} bytes wanted at offset {} of {}",
                                                size_bytes, position_, bytes_.size()));
    }
    const ByteView piece = bytes_.subspan(position_, static_cast<std::size_t>(size_bytes));
    position_ += piece.size();
    return piece;
}

Result<ProtobufCMessage*> RecordReader::unpack_next(const ProtobufCMessageDescriptor& descriptor) {
    const std::size_t record_at = position_;
    PPDSM_ASSIGN(const std::uint32_t size_bytes, next_number());
    if (size_bytes > kMaxMessageBytes) {
        return corrupt(image_name_,
                       fmt::format("record at offset {} claims {} bytes", record_at, size_bytes));
    }
    PPDSM_ASSIGN(const ByteView packed, raw(size_bytes));
    std::size_t budget =
        std::min(packed.size() * kUnpackedPerByte + kUnpackedSlackBytes, kMaxUnpackedBytes);
    ProtobufCAllocator allocator{allocate_within_budget, release, &budget};
    ProtobufCMessage* message =
        ::protobuf_c_message_unpack(&descriptor, &allocator, packed.size(), packed.data());
    if (message == nullptr) {
        return corrupt(image_name_, fmt::format("record at offset {} is no sound {}", record_at,
                                                descriptor.short_name));
    }
    return message;
}

}  // namespace ppdsm::images
