#include "criu-glue/store/blob.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <deque>
#include <optional>
#include <string>

#include "criu-glue/store/blob_tree.h"
#include "criu-glue/store/worker_pool.h"
#include "dsm/base/check.h"

namespace ppdsm {

using blob_tree::kFanOut;
using blob_tree::kLeafBytes;
using blob_tree::kMaxHeight;

struct BlobWriter::Impl {
    explicit Impl(ChunkStore& to) : store(to) {}

    struct Level {
        std::array<ChunkId, kFanOut> names;
        std::size_t count = 0;
    };

    Status add_leaf(const ChunkId& id, ByteView content) {
        if (size_bytes + content.size() > kMaxBlobBytes) {
            return fail(Code::kInvalid, "a blob has at most 2^48 bytes");
        }
        PPDSM_TRY(store.put(id, content));
        size_bytes += content.size();
        return add_name(0, id);
    }

    Status add_name(unsigned level, const ChunkId& id) {
        Level& at = levels[level];
        at.names[at.count++] = id;
        return at.count == kFanOut && level < kMaxHeight ? close_node(level) : Status{};
    }

    Status close_node(unsigned level) {
        Level& at = levels[level];
        const auto* const bytes = reinterpret_cast<const std::uint8_t*>(at.names.data());
        PPDSM_ASSIGN(const ChunkId node, store.put(ByteView(bytes, at.count * sizeof(ChunkId))));
        at.count = 0;
        return add_name(level + 1, node);
    }

    ChunkStore& store;
    std::uint64_t size_bytes = 0;
    Bytes partial;  ///< The leaf that is not full yet.
    std::array<Level, kMaxHeight + 1> levels;
};

static_assert(sizeof(ChunkId) == 16, "a node is its children's names back to back");

BlobWriter::BlobWriter(ChunkStore& store) : impl_(std::make_unique<Impl>(store)) {}
BlobWriter::BlobWriter(BlobWriter&&) noexcept = default;
BlobWriter::~BlobWriter() = default;

Status BlobWriter::append(ByteView content) {
    Bytes& partial = impl_->partial;
    if (!partial.empty()) {
        const std::size_t take = std::min(content.size(), kLeafBytes - partial.size());
        partial.insert(partial.end(), content.begin(),
                       content.begin() + static_cast<std::ptrdiff_t>(take));
        content = content.subspan(take);
        if (partial.size() < kLeafBytes) return {};
        PPDSM_TRY(impl_->add_leaf(ChunkId::of(partial), partial));
        partial.clear();
    }
    for (; content.size() >= kLeafBytes; content = content.subspan(kLeafBytes)) {
        const ByteView leaf = content.first(kLeafBytes);
        PPDSM_TRY(impl_->add_leaf(ChunkId::of(leaf), leaf));
    }
    partial.assign(content.begin(), content.end());
    return {};
}

Status BlobWriter::append_hashed(std::span<const ChunkId> leaves, ByteView content) {
    PPDSM_CHECK(impl_->partial.empty());
    for (const ChunkId& id : leaves) {
        const ByteView leaf = content.first(std::min<std::size_t>(content.size(), kLeafBytes));
        PPDSM_TRY(impl_->add_leaf(id, leaf));
        content = content.subspan(leaf.size());
    }
    return {};
}

Result<BlobRef> BlobWriter::finish() {
    if (!impl_->partial.empty()) {
        PPDSM_TRY(impl_->add_leaf(ChunkId::of(impl_->partial), impl_->partial));
        impl_->partial.clear();
    }
    if (impl_->size_bytes == 0) return BlobRef{};
    const unsigned height = blob_tree::height_of(impl_->size_bytes);
    for (unsigned level = 0; level < height; ++level) {
        if (impl_->levels[level].count > 0) PPDSM_TRY(impl_->close_node(level));
    }
    PPDSM_CHECK(impl_->levels[height].count == 1);
    return BlobRef{impl_->size_bytes, impl_->levels[height].names[0]};
}

namespace {

// Threads cost about as much to start as hashing a megabyte.
constexpr std::uint64_t kParallelFromBytes = std::uint64_t{8} << 20;
constexpr std::uint64_t kBatchBytes = std::uint64_t{1} << 20;
static_assert(kBatchBytes % kLeafBytes == 0);

/// Fills the view with `size` bytes of the content from `offset`; may use the buffer.
using ReadContent =
    std::function<Result<ByteView>(std::uint64_t offset, std::size_t size, Bytes& buffer)>;

struct Batch {
    Bytes buffer;
    ByteView content;
    std::vector<ChunkId> leaves;
    Status read;
    std::shared_ptr<WorkerPool::Job> job;
};

void hash_batch(Batch& batch, const ReadContent& read, std::uint64_t offset, std::size_t size) {
    Result<ByteView> content = read(offset, size, batch.buffer);
    if (!content) {
        batch.read = fail(content.error());
        return;
    }
    batch.content = *content;
    batch.leaves.clear();
    for (std::size_t at = 0; at < size; at += kLeafBytes) {
        batch.leaves.push_back(
            ChunkId::of(batch.content.subspan(at, std::min<std::size_t>(kLeafBytes, size - at))));
    }
}

/// Workers read and hash batches ahead, within a window; this thread looks the names up and puts
/// them in their order; workers compress the blocks that become full.
Status append_in_parallel(BlobWriter& writer, WorkerPool& workers, const ReadContent& read,
                          std::uint64_t size_bytes) {
    const std::size_t window = 2 * (workers.threads() + 1);
    std::deque<std::unique_ptr<Batch>> ahead;
    std::vector<std::unique_ptr<Batch>> idle;
    std::uint64_t next = 0;
    Status result;
    while (next < size_bytes || !ahead.empty()) {
        while (next < size_bytes && ahead.size() < window) {
            std::unique_ptr<Batch> batch;
            if (idle.empty()) {
                batch = std::make_unique<Batch>();
            } else {
                batch = std::move(idle.back());
                idle.pop_back();
            }
            const auto size = static_cast<std::size_t>(std::min(kBatchBytes, size_bytes - next));
            batch->job = workers.submit([target = batch.get(), &read, offset = next, size] {
                hash_batch(*target, read, offset, size);
            });
            ahead.push_back(std::move(batch));
            next += size;
        }
        std::unique_ptr<Batch> batch = std::move(ahead.front());
        ahead.pop_front();
        workers.wait(*batch->job);
        if (result) result = batch->read;
        if (result) result = writer.append_hashed(batch->leaves, batch->content);
        if (!result) next = size_bytes;  // Only waits for the jobs that are under way.
        idle.push_back(std::move(batch));
    }
    return result;
}

Result<BlobRef> store_content(ChunkStore& store, const ReadContent& read,
                              std::uint64_t size_bytes) {
    BlobWriter writer(store);
    if (size_bytes > kParallelFromBytes) {
        WorkerPool workers;
        PPDSM_TRY(store.use_workers(&workers));
        const Status appended = append_in_parallel(writer, workers, read, size_bytes);
        const Status written = store.use_workers(nullptr);
        PPDSM_TRY(appended);
        PPDSM_TRY(written);
        return writer.finish();
    }
    Bytes buffer;
    for (std::uint64_t at = 0; at < size_bytes; at += kBatchBytes) {
        const auto size = static_cast<std::size_t>(std::min(kBatchBytes, size_bytes - at));
        PPDSM_ASSIGN(const ByteView content, read(at, size, buffer));
        PPDSM_TRY(writer.append(content));
    }
    return writer.finish();
}

const std::array<std::uint8_t, kBatchBytes> kZeroBatch{};

/// Reading a hole would fill the page cache with zeros: seconds for a sparse file of a few GiB.
bool is_hole(const OwnedFd& fd, std::uint64_t offset_bytes, std::size_t size_bytes) {
    const auto end = static_cast<off_t>(offset_bytes + size_bytes);
    const off_t data = ::lseek(fd.get(), static_cast<off_t>(offset_bytes), SEEK_DATA);
    if (data >= 0) return data >= end;
    // ENXIO: only a hole up to the end of the file, unless the file ends earlier by now.
    struct stat status{};
    return errno == ENXIO && ::fstat(fd.get(), &status) == 0 && status.st_size >= end;
}

}  // namespace

Result<BlobRef> store_file(ChunkStore& store, const OwnedFd& fd) {
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0) return fail_errno("stat a file to be stored");
    if (!S_ISREG(status.st_mode)) {
        return fail(Code::kInvalid, "only regular files can be stored as blobs");
    }
    // Looking for holes moves a file's offset, and the caller's is not ours to move. Where /proc
    // refuses a description of our own the holes are read like the rest.
    const Result<OwnedFd> own =
        open_file("/proc/self/fd/" + std::to_string(fd.get()), O_RDONLY | O_NONBLOCK);
    const ReadContent read = [&](std::uint64_t offset, std::size_t size,
                                 Bytes& buffer) -> Result<ByteView> {
        if (own && is_hole(*own, offset, size)) return ByteView(kZeroBatch).first(size);
        buffer.resize(size);
        if (Status got = read_exactly_at(fd, buffer, offset); !got) {
            if (got.error().code() != Code::kCorrupt) return fail(got.error());
            return fail(Code::kUnavailable, "a file became shorter while it was stored");
        }
        return ByteView(buffer);
    };
    return store_content(store, read, static_cast<std::uint64_t>(status.st_size));
}

Result<BlobRef> store_bytes(ChunkStore& store, ByteView content) {
    const ReadContent read = [content](std::uint64_t offset, std::size_t size,
                                       Bytes& /*buffer*/) -> Result<ByteView> {
        return content.subspan(static_cast<std::size_t>(offset), size);
    };
    return store_content(store, read, content.size());
}

}  // namespace ppdsm
