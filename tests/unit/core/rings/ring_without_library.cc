// All that a program's end of a ring does, to be linked without the C++ library.
#include "dsm/core/rings/blob_area.h"
#include "dsm/core/rings/ring_set.h"
#include "dsm/core/rings/seal.h"

using namespace ppdsm;
using namespace ppdsm::rings;

extern "C" RingCode ring_without_library(void* memory, std::size_t size_bytes, void* area,
                                         std::size_t area_bytes) {
    if (!format_ring(memory, kMinCapacityBytes, 1, 1)) return RingCode::kTooLarge;
    if (!format_blob_area(area, 4)) return RingCode::kTooLarge;
    RingWriter writer;
    RingReader reader;
    BlobWriter blob_writer;
    BlobReader blob_reader;
    if (writer.attach(memory, size_bytes) != RingCode::kDone ||
        reader.attach(memory, size_bytes) != RingCode::kDone ||
        blob_writer.attach(area, area_bytes) != RingCode::kDone ||
        blob_reader.attach(area, area_bytes) != RingCode::kDone) {
        return RingCode::kCorrupt;
    }
    Blob blob;
    if (blob_writer.allocate(kBlobFromBytes, blob) != RingCode::kDone ||
        BlobWriter::write(writer, blob, Deadline::after_ns(1)) != RingCode::kDone) {
        blob_writer.abandon(blob);
        return RingCode::kFull;
    }
    Frame frame;
    RingSet set;
    RingReader* from = nullptr;
    if (set.add(reader) && set.peek(frame, from, Deadline::after_ns(1)) == RingCode::kDone &&
        reader.peek(frame, Deadline::after_ns(1)) == RingCode::kDone &&
        blob_reader.open(frame, blob) == RingCode::kDone) {
        reader.take();
        blob_reader.release(blob);
    }
    Seal seal;
    return seal_ring(memory, size_bytes, 2, seal);
}
