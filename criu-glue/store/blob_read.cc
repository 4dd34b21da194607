// Reading blobs: every name is followed through the store, which verifies what it returns; here the
// shape is verified too, because a name that is right may still stand in the wrong place.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "criu-glue/store/blob.h"
#include "criu-glue/store/blob_tree.h"
#include "criu-glue/store/worker_pool.h"

namespace ppdsm {

using blob_tree::children_of;
using blob_tree::covered_bytes;
using blob_tree::height_of;
using blob_tree::kFanOut;
using blob_tree::kLeafBytes;
using blob_tree::leaves_of;

namespace {

// Threads cost about as much to start as writing a megabyte.
constexpr std::uint64_t kParallelFromBytes = std::uint64_t{8} << 20;
constexpr std::uint64_t kPartBytes = std::uint64_t{16} << 20;

struct Node {
    std::array<ChunkId, kFanOut> names;
    std::size_t count = 0;
};

Status check_size(const BlobRef& blob) {
    if (blob.size_bytes <= kMaxBlobBytes) return {};
    return fail(Code::kCorrupt, "blob " + blob.root.to_string() + ": impossible size " +
                                    std::to_string(blob.size_bytes));
}

/// Where a walk gets its chunks.
using View = std::function<Result<ByteView>(const ChunkId&)>;

View view_of(ChunkStore& store) {
    return [&store](const ChunkId& id) { return store.view(id); };
}

Result<Node> read_node(const View& view, const BlobRef& blob, const ChunkId& id, unsigned level,
                       std::uint64_t offset_bytes) {
    PPDSM_ASSIGN(const ByteView content, view(id));
    Node node;
    node.count = children_of(blob.size_bytes, level, offset_bytes);
    if (content.size() != node.count * sizeof(ChunkId)) {
        return fail(Code::kCorrupt, "chunk " + id.to_string() + ": not a node of " +
                                        std::to_string(node.count) + " names");
    }
    std::memcpy(node.names.data(), content.data(), content.size());
    return node;
}

Result<ByteView> read_leaf(const View& view, const BlobRef& blob, const ChunkId& id,
                           std::uint64_t offset_bytes) {
    PPDSM_ASSIGN(const ByteView content, view(id));
    const std::uint64_t expected_bytes = std::min(kLeafBytes, blob.size_bytes - offset_bytes);
    if (content.size() != expected_bytes) {
        return fail(Code::kCorrupt, "chunk " + id.to_string() + ": not a leaf of " +
                                        std::to_string(expected_bytes) + " bytes");
    }
    return content;
}

/// One walk over a blob's tree, in the order of its bytes.
class Walk {
public:
    struct Visitor {
        /// False: do not descend. May be empty.
        std::function<bool(const ChunkId&, unsigned level, std::uint64_t offset_bytes)> enter;
        /// Empty: leaves are not read.
        std::function<Status(std::uint64_t offset_bytes, ByteView)> leaf;
        /// Given: a chunk that cannot be read is reported, and the walk goes on.
        std::function<void(const ChunkId&, const Error&)> report;
    };

    Walk(View view, const BlobRef& blob, const Visitor& visitor)
        : view_(std::move(view)), blob_(blob), visitor_(visitor) {}
    Walk(ChunkStore& store, const BlobRef& blob, const Visitor& visitor)
        : Walk(view_of(store), blob, visitor) {}

    Status run(std::uint64_t from_bytes, std::uint64_t to_bytes) {
        PPDSM_TRY(check_size(blob_));
        if (blob_.size_bytes == 0) return {};
        from_bytes_ = from_bytes;
        to_bytes_ = to_bytes;
        return visit(blob_.root, height_of(blob_.size_bytes), 0);
    }

private:
    Status visit(const ChunkId& id, unsigned level, std::uint64_t offset_bytes) {
        if (visitor_.enter && !visitor_.enter(id, level, offset_bytes)) return {};
        if (level == 0) return visit_leaf(id, offset_bytes);
        const Result<Node> node = read_node(view_, blob_, id, level, offset_bytes);
        if (!node) return unreadable(id, node.error());
        const std::uint64_t child_bytes = covered_bytes(level - 1);
        for (std::size_t i = 0; i < node->count; ++i) {
            const std::uint64_t begins = offset_bytes + i * child_bytes;
            if (begins >= to_bytes_ || begins + child_bytes <= from_bytes_) continue;
            PPDSM_TRY(visit(node->names[i], level - 1, begins));
        }
        return {};
    }

    Status visit_leaf(const ChunkId& id, std::uint64_t offset_bytes) {
        if (!visitor_.leaf) return {};
        const Result<ByteView> content = read_leaf(view_, blob_, id, offset_bytes);
        if (!content) return unreadable(id, content.error());
        return visitor_.leaf(offset_bytes, *content);
    }

    Status unreadable(const ChunkId& id, const Error& error) {
        if (!visitor_.report) return fail(error);
        visitor_.report(id, error);
        return {};
    }

    View view_;
    const BlobRef& blob_;
    const Visitor& visitor_;
    std::uint64_t from_bytes_ = 0;
    std::uint64_t to_bytes_ = 0;
};

/// Stands in a set of names for "the whole subtree below". The node's own name would not do: a
/// program may own a file whose bytes equal a node's, and a leaf in the set says nothing about the
/// chunks that it happens to spell.
ChunkId subtree_mark(const ChunkId& id, unsigned level) {
    std::array<std::uint8_t, 1 + sizeof id.bytes> text{};
    text[0] = static_cast<std::uint8_t>(level);
    std::ranges::copy(id.bytes, text.begin() + 1);
    return ChunkId::of(text);
}

/// Gathers pieces that follow one another into few large writes.
class HoleyWriter {
public:
    explicit HoleyWriter(const OwnedFd& fd) : fd_(fd) { gathered_.reserve(kGatherBytes); }

    Status write(std::uint64_t offset_bytes, ByteView piece) {
        const bool follows = offset_bytes == at_bytes_ + gathered_.size();
        if (!follows || gathered_.size() + piece.size() > kGatherBytes) {
            PPDSM_TRY(flush());
            at_bytes_ = offset_bytes;
        }
        gathered_.insert(gathered_.end(), piece.begin(), piece.end());
        return {};
    }

    Status flush() {
        const Status written = write_all_at(fd_, gathered_, at_bytes_);
        at_bytes_ += gathered_.size();
        gathered_.clear();
        return written;
    }

private:
    static constexpr std::size_t kGatherBytes = std::size_t{256} << 10;
    const OwnedFd& fd_;
    Bytes gathered_;
    std::uint64_t at_bytes_ = 0;
};

/// Names of subtrees, all of whose bytes are zero, by level.
std::vector<ChunkId> zero_subtrees(unsigned height) {
    const Bytes zeros(kLeafBytes);
    std::vector<ChunkId> names{ChunkId::of(zeros)};
    while (names.size() <= height) {
        Bytes node;
        for (std::size_t i = 0; i < kFanOut; ++i) {
            node.insert(node.end(), names.back().bytes.begin(), names.back().bytes.end());
        }
        names.push_back(ChunkId::of(node));
    }
    return names;
}

Status write_range(View view, const BlobRef& blob, const std::vector<ChunkId>& zeros,
                   const OwnedFd& fd, std::uint64_t from_bytes, std::uint64_t to_bytes) {
    HoleyWriter writer(fd);
    const auto enter = [&](const ChunkId& id, unsigned level, std::uint64_t) {
        return id != zeros[level];
    };
    const auto leaf = [&](std::uint64_t offset_bytes, ByteView piece) {
        return writer.write(offset_bytes, piece);
    };
    PPDSM_TRY(Walk(std::move(view), blob, {.enter = enter, .leaf = leaf, .report = {}})
                  .run(from_bytes, to_bytes));
    return writer.flush();
}

/// Each job reads a range of its own through a reader of its own. False: something failed.
bool write_in_parallel(const ChunkStore& store, const BlobRef& blob,
                       const std::vector<ChunkId>& zeros, const OwnedFd& fd) {
    struct Part {
        bool written = false;
        std::shared_ptr<WorkerPool::Job> job;
    };
    std::vector<Part> parts((blob.size_bytes + kPartBytes - 1) / kPartBytes);
    WorkerPool workers;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        parts[i].job = workers.submit([&, i] {
            ChunkStore::Reader reader(store);
            const View view = [&](const ChunkId& id) { return reader.view(id); };
            const std::uint64_t from_bytes = i * kPartBytes;
            const std::uint64_t to_bytes = std::min(from_bytes + kPartBytes, blob.size_bytes);
            parts[i].written = write_range(view, blob, zeros, fd, from_bytes, to_bytes).has_value();
        });
    }
    for (const Part& part : parts) workers.wait(*part.job);
    return std::ranges::all_of(parts, &Part::written);
}

}  // namespace

Status read_blob(ChunkStore& store, const BlobRef& blob,
                 const std::function<Status(std::uint64_t, ByteView)>& sink) {
    return Walk(store, blob, {.enter = {}, .leaf = sink, .report = {}}).run(0, blob.size_bytes);
}

Status read_blob_range(ChunkStore& store, const BlobRef& blob, std::uint64_t offset_bytes,
                       std::span<std::uint8_t> into) {
    if (offset_bytes > blob.size_bytes || into.size() > blob.size_bytes - offset_bytes) {
        return fail(Code::kInvalid, "read " + std::to_string(into.size()) + " bytes at " +
                                        std::to_string(offset_bytes) + " of a blob of " +
                                        std::to_string(blob.size_bytes));
    }
    if (into.empty()) return {};
    const std::uint64_t end_bytes = offset_bytes + into.size();
    const auto copy = [&](std::uint64_t at_bytes, ByteView piece) -> Status {
        const std::uint64_t from = std::max(at_bytes, offset_bytes);
        const std::uint64_t to = std::min(at_bytes + piece.size(), end_bytes);
        std::memcpy(into.data() + (from - offset_bytes), piece.data() + (from - at_bytes),
                    static_cast<std::size_t>(to - from));
        return {};
    };
    return Walk(store, blob, {.enter = {}, .leaf = copy, .report = {}})
        .run(offset_bytes, end_bytes);
}

Result<Bytes> load_blob(ChunkStore& store, const BlobRef& blob, std::uint64_t limit_bytes) {
    if (blob.size_bytes > limit_bytes) {
        return fail(Code::kCorrupt, "blob " + blob.root.to_string() + " has " +
                                        std::to_string(blob.size_bytes) + " bytes, more than the " +
                                        std::to_string(limit_bytes) + " it may have");
    }
    Bytes content(static_cast<std::size_t>(blob.size_bytes));
    PPDSM_TRY(read_blob_range(store, blob, 0, content));
    return content;
}

Status write_blob_to(ChunkStore& store, const BlobRef& blob, const OwnedFd& fd) {
    PPDSM_TRY(check_size(blob));
    // Through zero: what the file held becomes a hole, which the zero pages then need not
    // overwrite.
    if (::ftruncate(fd.get(), 0) != 0 ||
        ::ftruncate(fd.get(), static_cast<off_t>(blob.size_bytes)) != 0) {
        return fail_errno("set the size of a restored file");
    }
    if (blob.size_bytes == 0) return {};
    const std::vector<ChunkId> zeros = zero_subtrees(height_of(blob.size_bytes));
    if (blob.size_bytes > kParallelFromBytes && write_in_parallel(store, blob, zeros, fd))
        return {};
    // Small; or something is amiss: the store itself tells what, and remembers the damage.
    return write_range(view_of(store), blob, zeros, fd, 0, blob.size_bytes);
}

Status mark_blob(ChunkStore& store, const BlobRef& blob, ChunkSet& live) {
    const auto enter = [&](const ChunkId& id, unsigned level, std::uint64_t) {
        live.insert(id);
        return level > 0 && live.insert(subtree_mark(id, level)).second;
    };
    return Walk(store, blob, {.enter = enter, .leaf = {}, .report = {}}).run(0, blob.size_bytes);
}

Status check_blob(ChunkStore& store, const BlobRef& blob,
                  const std::function<void(const ChunkId&, const Error&)>& report) {
    ChunkSet seen;
    const auto enter = [&](const ChunkId& id, unsigned level, std::uint64_t offset_bytes) {
        // A last, shorter subtree is another shape: the same name there must be looked at anew.
        const std::uint64_t left_bytes = blob.size_bytes - offset_bytes;
        return left_bytes < covered_bytes(level) || seen.insert(subtree_mark(id, level)).second;
    };
    const auto leaf = [](std::uint64_t, ByteView) { return Status{}; };
    return Walk(store, blob, {.enter = enter, .leaf = leaf, .report = report})
        .run(0, blob.size_bytes);
}

}  // namespace ppdsm
