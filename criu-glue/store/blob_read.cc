// Reading blobs: every name is followed through the store, which verifies what it returns; here the
// shape is verified too, because a name that is right may still stand in the wrong place.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "criu-glue/store/blob.h"
#include "criu-glue/store/blob_tree.h"

namespace ppdsm {

using blob_tree::children_of;
using blob_tree::covered_bytes;
using blob_tree::height_of;
using blob_tree::kFanOut;
using blob_tree::kLeafBytes;
using blob_tree::leaves_of;

namespace {

struct Node {
    std::array<ChunkId, kFanOut> names;
    std::size_t count = 0;
};

Status check_size(const BlobRef& blob) {
    if (blob.size_bytes <= kMaxBlobBytes) return {};
    return fail(Code::kCorrupt, "blob " + blob.root.to_string() + ": impossible size " +
                                    std::to_string(blob.size_bytes));
}

Result<Node> read_node(ChunkStore& store, const BlobRef& blob, const ChunkId& id, unsigned level,
                       std::uint64_t offset_bytes) {
    PPDSM_ASSIGN(const ByteView content, store.view(id));
    Node node;
    node.count = children_of(blob.size_bytes, level, offset_bytes);
    if (content.size() != node.count * sizeof(ChunkId)) {
        return fail(Code::kCorrupt, "chunk " + id.to_string() + ": not a node of " +
                                        std::to_string(node.count) + " names");
    }
    std::memcpy(node.names.data(), content.data(), content.size());
    return node;
}

Result<ByteView> read_leaf(ChunkStore& store, const BlobRef& blob, const ChunkId& id,
                           std::uint64_t offset_bytes) {
    PPDSM_ASSIGN(const ByteView content, store.view(id));
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

    Walk(ChunkStore& store, const BlobRef& blob, const Visitor& visitor)
        : store_(store), blob_(blob), visitor_(visitor) {}

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
        const Result<Node> node = read_node(store_, blob_, id, level, offset_bytes);
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
        const Result<ByteView> content = read_leaf(store_, blob_, id, offset_bytes);
        if (!content) return unreadable(id, content.error());
        return visitor_.leaf(offset_bytes, *content);
    }

    Status unreadable(const ChunkId& id, const Error& error) {
        if (!visitor_.report) return fail(error);
        visitor_.report(id, error);
        return {};
    }

    ChunkStore& store_;
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

/// Compares two trees from the top down.
class Difference {
public:
    Difference(ChunkStore& store, const BlobRef& a, const BlobRef& b)
        : store_(store), a_{&a, height(a)}, b_{&b, height(b)} {}

    Result<std::uint64_t> count() {
        const unsigned top = std::max(a_.height, b_.height);
        return count_below(top, 0, root_of(a_), root_of(b_));
    }

private:
    struct Side {
        const BlobRef* blob;
        unsigned height;
    };
    using Name = std::optional<ChunkId>;
    using Children = std::array<Name, kFanOut>;

    static unsigned height(const BlobRef& blob) {
        return blob.size_bytes == 0 ? 0 : height_of(blob.size_bytes);
    }
    static Name root_of(const Side& side) {
        return side.blob->size_bytes == 0 ? Name() : Name(side.blob->root);
    }

    /// The lower of two trees counts as hanging under a chain of nodes with one child each.
    Result<Children> children(const Side& side, const Name& name, unsigned level,
                              std::uint64_t offset_bytes) {
        Children children;
        if (!name) return children;
        if (level > side.height) {
            children[0] = name;
            return children;
        }
        PPDSM_ASSIGN(const Node node, read_node(store_, *side.blob, *name, level, offset_bytes));
        for (std::size_t i = 0; i < node.count; ++i) children[i] = node.names[i];
        return children;
    }

    Result<std::uint64_t> count_below(unsigned level, std::uint64_t offset_bytes, const Name& a,
                                      const Name& b) {
        if (!a && !b) return 0;
        if (!a || !b) {
            const BlobRef& only = a ? *a_.blob : *b_.blob;
            return leaves_of(std::min(covered_bytes(level), only.size_bytes - offset_bytes));
        }
        if (*a == *b && level <= a_.height && level <= b_.height) return 0;
        if (level == 0) return 1;
        PPDSM_ASSIGN(const Children of_a, children(a_, a, level, offset_bytes));
        PPDSM_ASSIGN(const Children of_b, children(b_, b, level, offset_bytes));
        std::uint64_t changed = 0;
        for (std::size_t i = 0; i < kFanOut; ++i) {
            PPDSM_ASSIGN(const std::uint64_t below,
                         count_below(level - 1, offset_bytes + i * covered_bytes(level - 1),
                                     of_a[i], of_b[i]));
            changed += below;
        }
        return changed;
    }

    ChunkStore& store_;
    Side a_;
    Side b_;
};

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
    HoleyWriter writer(fd);
    const auto enter = [&](const ChunkId& id, unsigned level, std::uint64_t) {
        return id != zeros[level];
    };
    const auto leaf = [&](std::uint64_t offset_bytes, ByteView piece) {
        return writer.write(offset_bytes, piece);
    };
    PPDSM_TRY(
        Walk(store, blob, {.enter = enter, .leaf = leaf, .report = {}}).run(0, blob.size_bytes));
    return writer.flush();
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

Result<std::uint64_t> count_changed_leaves(ChunkStore& store, const BlobRef& a, const BlobRef& b) {
    PPDSM_TRY(check_size(a));
    PPDSM_TRY(check_size(b));
    return Difference(store, a, b).count();
}

}  // namespace ppdsm
