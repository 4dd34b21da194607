// CRIU's image file: one or two magic numbers, then records of a 32-bit length and a protobuf
// message, some followed by raw bytes. Numbers are little-endian. Internal to this room.
#pragma once

#include <protobuf-c/protobuf-c.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "criu-glue/images/image_source.h"
#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm::images {

/// The second magic number (of "inventory.img": the only one), named after what the image holds.
enum class Magic : std::uint32_t {
    kInventory = 0x58313116,
    kTree = 0x50273030,
    kDescriptors = 0x56213732,
    kPagemap = 0x56084025,
    kCore = 0x55053847,
    kIds = 0x54432030,
    kPipesData = 0x56453709,
    kFifoData = 0x59333054,
    kFileSystem = 0x51403912,
    kMemory = 0x57492820,
    kRemappedPaths = 0x59133954,
    kGhostFile = 0x52583605,
    kTerminals = 0x59453036,
    kFiles = 0x56303138,
    kMemoryFiles = 0x48453499,
    kTimeNamespace = 0x43114433,
    kStatistics = 0x57093306,
};

/// Larger messages are corrupt: the page map of a terabyte in the smallest pieces has less.
inline constexpr std::uint32_t kMaxMessageBytes = std::uint32_t{64} << 20;

struct FreeMessage {
    void operator()(void* message) const;
};
template <typename T>
using MessagePtr = std::unique_ptr<T, FreeMessage>;

/// Reads the records of one image in order. The bytes must outlive it.
class RecordReader {
public:
    static Result<RecordReader> open(std::string image_name, ByteView bytes, Magic magic);

    [[nodiscard]] bool at_end() const { return position_ == bytes_.size(); }
    [[nodiscard]] std::size_t position() const { return position_; }
    [[nodiscard]] const std::string& image_name() const { return image_name_; }

    /// The next record as a T, whose descriptor this is.
    template <typename T>
    Result<MessagePtr<T>> next(const ProtobufCMessageDescriptor& descriptor) {
        PPDSM_ASSIGN(ProtobufCMessage * message, unpack_next(descriptor));
        return MessagePtr<T>(reinterpret_cast<T*>(message));
    }
    /// Raw bytes that follow a record.
    Result<ByteView> raw(std::uint64_t size_bytes);

private:
    RecordReader(std::string image_name, ByteView bytes)
        : image_name_(std::move(image_name)), bytes_(bytes) {}
    Result<ProtobufCMessage*> unpack_next(const ProtobufCMessageDescriptor& descriptor);
    Result<std::uint32_t> next_number();

    std::string image_name_;
    ByteView bytes_;
    std::size_t position_ = 0;
};

/// Error{kCorrupt, "IMAGE: what"}.
[[nodiscard]] tl::unexpected<Error> corrupt(const std::string& image_name, const std::string& what);

/// The only record of an image that must be there; kCorrupt when the image is missing, since
/// another image said that it exists.
template <typename T>
Result<MessagePtr<T>> read_single(ImageSource& source, const std::string& name, Magic magic,
                                  const ProtobufCMessageDescriptor& descriptor) {
    PPDSM_ASSIGN(const std::optional<Bytes> bytes, load_optional_image(source, name));
    if (!bytes) return corrupt(name, "is missing from the checkpoint");
    PPDSM_ASSIGN(RecordReader reader, RecordReader::open(name, *bytes, magic));
    return reader.next<T>(descriptor);
}

/// Every record of an image; none when there is no such image.
template <typename T>
Result<std::vector<MessagePtr<T>>> read_records(ImageSource& source, const std::string& name,
                                                Magic magic,
                                                const ProtobufCMessageDescriptor& descriptor) {
    std::vector<MessagePtr<T>> records;
    PPDSM_ASSIGN(const std::optional<Bytes> bytes, load_optional_image(source, name));
    if (!bytes) return records;
    PPDSM_ASSIGN(RecordReader reader, RecordReader::open(name, *bytes, magic));
    while (!reader.at_end()) {
        PPDSM_ASSIGN(MessagePtr<T> record, reader.next<T>(descriptor));
        records.push_back(std::move(record));
    }
    return records;
}

}  // namespace ppdsm::images
