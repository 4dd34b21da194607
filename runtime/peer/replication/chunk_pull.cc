#include "runtime/peer/replication/chunk_pull.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "criu-glue/store/blob_tree.h"

namespace ppdsm {

using blob_tree::children_of;
using blob_tree::covered_bytes;
using blob_tree::height_of;
using blob_tree::kFanOut;
using blob_tree::kMaxHeight;

namespace {

/// A node somewhere in a blob, with the node at the same place of the base, if there is one.
struct Place {
    ChunkId id;
    ChunkId base;
    std::uint64_t offset_bytes = 0;
    std::uint32_t blob = 0;
    std::uint8_t level = 0;
    bool has_base = false;
    bool has_arrived = false;  ///< Was lacking, and has come since.
};

struct Node {
    std::array<ChunkId, kFanOut> names;
    std::size_t count = 0;
};

/// A chunk that is lacking: queued, or asked for.
struct Wanted {
    std::vector<Place> nodes;      ///< Places to go on at once it is here.
    std::uint16_t leaf_bytes = 0;  ///< Not 0: it is a leaf of so many bytes.
    bool asked = false;
};

struct BlobPair {
    BlobRef blob;
    BlobRef base;  ///< Of size 0 where there is none.
};

[[nodiscard]] std::uint64_t span_bytes(std::uint64_t size_bytes, unsigned level,
                                       std::uint64_t offset_bytes) {
    if (offset_bytes >= size_bytes) return 0;
    return std::min(covered_bytes(level), size_bytes - offset_bytes);
}

/// Calls `visit(key, blob)` with a key that says where in the manifest the blob stands.
template <typename Visit>
void for_each_named_blob(const Manifest& manifest, Visit visit) {
    std::string key;
    for (const ImageFile& image : manifest.images) {
        key.assign("i").append(image.name);
        visit(key, image.content);
    }
    for (const Layer& layer : manifest.layers) {
        // Neither name holds a NUL byte: the manifest's rules.
        const std::string prefix = "l" + layer.name + '\0';
        for (const LayerEntry& entry : layer.entries) {
            if (entry.type != LayerEntry::Type::kFile) continue;
            key.assign(prefix).append(entry.path);
            visit(key, entry.content);
        }
    }
}

std::vector<BlobPair> pair_blobs(const Manifest& manifest, const Manifest* base) {
    std::unordered_map<std::string, BlobRef> before;
    if (base != nullptr) {
        for_each_named_blob(
            *base, [&](const std::string& key, const BlobRef& blob) { before.emplace(key, blob); });
    }
    std::vector<BlobPair> pairs;
    for_each_named_blob(manifest, [&](const std::string& key, const BlobRef& blob) {
        const auto same_place = before.find(key);
        const BlobRef old = same_place == before.end() ? BlobRef{} : same_place->second;
        if (blob.size_bytes > 0 && blob != old) pairs.push_back({blob, old});
    });
    return pairs;
}

/// Subtrees that the walk has been through, so that a file of a million equal pages costs as much
/// as one of sixteen. Forgets, never errs: a slot holds the last one that fell into it.
class VisitedSubtrees {
public:
    [[nodiscard]] bool contains(const ChunkId& id, unsigned level) const {
        const Slot& slot = slots_[slot_of(id)];
        return slot.level == level && slot.id == id;
    }
    void insert(const ChunkId& id, unsigned level) {
        slots_[slot_of(id)] = {id, static_cast<std::uint8_t>(level)};
    }

private:
    static constexpr std::size_t kSlots = 8192;
    struct Slot {
        ChunkId id;
        std::uint8_t level = 0;  ///< 0: empty; leaves are not kept here.
    };
    static std::size_t slot_of(const ChunkId& id) { return ChunkIdHash{}(id) % kSlots; }
    std::vector<Slot> slots_{kSlots};
};

}  // namespace

struct ChunkPull::Impl {
    Impl(ChunkLookup& lookup, const Manifest& manifest, const Manifest* base)
        : store(lookup), blobs(pair_blobs(manifest, base)) {}

    Status walk();
    Status visit_root(std::uint32_t blob);
    Status visit_node(const Place& place);
    Status expand(const Place& place, const Node& node);
    Status visit_leaf(const ChunkId& id, std::uint64_t length_bytes);
    void want_node(const Place& place);
    [[nodiscard]] bool is_whole(const Place& place) const;
    [[nodiscard]] bool base_at_root(const BlobPair& pair, unsigned level, ChunkId& id);
    [[nodiscard]] std::optional<Node> read_node(const ChunkId& id);
    [[nodiscard]] std::optional<Node> base_node(const Place& place);
    void take(std::deque<ChunkId>& from, std::size_t most, std::vector<ChunkId>& into);

    ChunkLookup& store;
    std::vector<BlobPair> blobs;
    std::size_t next_blob = 0;
    /// Nodes to be looked at, by level: the lowest first, so that few are known at a time.
    std::array<std::deque<Place>, kMaxHeight + 1> places;
    std::unordered_map<ChunkId, Wanted, ChunkIdHash> wanted;
    std::deque<ChunkId> retries;
    std::deque<ChunkId> nodes;
    std::deque<ChunkId> leaves;
    std::size_t waiting_nodes = 0;   ///< Places in `wanted`.
    std::size_t waiting_leaves = 0;  ///< Leaves in `wanted`.
    std::size_t asked = 0;
    VisitedSubtrees visited;
};

Status ChunkPull::Impl::walk() {
    while (waiting_leaves < kMaxLeaves && waiting_nodes < kMaxNodes) {
        const auto level = std::ranges::find_if(places, [](const auto& at) { return !at.empty(); });
        if (level != places.end()) {
            const Place place = level->front();
            level->pop_front();
            PPDSM_TRY(visit_node(place));
        } else if (next_blob < blobs.size()) {
            PPDSM_TRY(visit_root(static_cast<std::uint32_t>(next_blob++)));
        } else {
            break;
        }
    }
    return {};
}

Status ChunkPull::Impl::visit_root(std::uint32_t blob) {
    const BlobPair& pair = blobs[blob];
    if (pair.blob.size_bytes > kMaxBlobBytes) {
        return fail(Code::kCorrupt, "blob " + pair.blob.root.to_string() + ": impossible size " +
                                        std::to_string(pair.blob.size_bytes));
    }
    const unsigned height = height_of(pair.blob.size_bytes);
    if (height == 0) return visit_leaf(pair.blob.root, pair.blob.size_bytes);
    Place root{.id = pair.blob.root,
               .base = {},
               .offset_bytes = 0,
               .blob = blob,
               .level = static_cast<std::uint8_t>(height)};
    root.has_base = base_at_root(pair, height, root.base);
    return visit_node(root);
}

/// The base's node of this level at offset 0. A base that was larger is descended on its left edge;
/// one that was smaller comes in further below.
bool ChunkPull::Impl::base_at_root(const BlobPair& pair, unsigned level, ChunkId& id) {
    if (pair.base.size_bytes == 0 || pair.base.size_bytes > kMaxBlobBytes) return false;
    unsigned at = height_of(pair.base.size_bytes);
    if (at < level) return false;
    id = pair.base.root;
    for (; at > level; --at) {
        const std::optional<Node> node = read_node(id);
        if (!node || node->count != children_of(pair.base.size_bytes, at, 0)) return false;
        id = node->names[0];
    }
    return true;
}

std::optional<Node> ChunkPull::Impl::read_node(const ChunkId& id) {
    const Result<ByteView> content = store.view(id);
    if (!content || content->size() > sizeof(Node::names) ||
        content->size() % sizeof(ChunkId) != 0) {
        return std::nullopt;
    }
    Node node;
    node.count = content->size() / sizeof(ChunkId);
    std::memcpy(node.names.data(), content->data(), content->size());
    return node;
}

bool ChunkPull::Impl::is_whole(const Place& place) const {
    return span_bytes(blobs[place.blob].blob.size_bytes, place.level, place.offset_bytes) ==
           covered_bytes(place.level);
}

Status ChunkPull::Impl::visit_node(const Place& place) {
    if (!place.has_arrived && is_whole(place) && visited.contains(place.id, place.level)) return {};
    const BlobPair& pair = blobs[place.blob];
    if (place.has_base && place.base == place.id &&
        span_bytes(pair.blob.size_bytes, place.level, place.offset_bytes) ==
            span_bytes(pair.base.size_bytes, place.level, place.offset_bytes)) {
        return {};
    }
    if (store.length_bytes(place.id) == 0) {
        want_node(place);
        return {};
    }
    const Result<ByteView> content = store.view(place.id);
    if (!content) {
        if (place.has_arrived) return fail(content.error());
        want_node(place);  // Damaged: it is to be had anew.
        return {};
    }
    Node node;
    node.count = children_of(pair.blob.size_bytes, place.level, place.offset_bytes);
    if (content->size() != node.count * sizeof(ChunkId)) {
        return fail(Code::kCorrupt, "chunk " + place.id.to_string() + ": not a node of " +
                                        std::to_string(node.count) + " names");
    }
    std::memcpy(node.names.data(), content->data(), content->size());
    return expand(place, node);
}

std::optional<Node> ChunkPull::Impl::base_node(const Place& place) {
    if (!place.has_base) return std::nullopt;
    std::optional<Node> node = read_node(place.base);
    const std::uint64_t size_bytes = blobs[place.blob].base.size_bytes;
    if (!node || node->count != children_of(size_bytes, place.level, place.offset_bytes)) {
        return std::nullopt;
    }
    return node;
}

Status ChunkPull::Impl::expand(const Place& place, const Node& node) {
    const BlobPair& pair = blobs[place.blob];
    const std::optional<Node> base = base_node(place);
    const unsigned level = place.level - 1U;
    for (std::size_t i = 0; i < node.count; ++i) {
        Place child{.id = node.names[i],
                    .base = {},
                    .offset_bytes = place.offset_bytes + i * covered_bytes(level),
                    .blob = place.blob,
                    .level = static_cast<std::uint8_t>(level)};
        const std::uint64_t span = span_bytes(pair.blob.size_bytes, level, child.offset_bytes);
        if (base && i < base->count) {
            child.base = base->names[i];
            child.has_base = true;
            const bool same_shape =
                span == span_bytes(pair.base.size_bytes, level, child.offset_bytes);
            if (child.base == child.id && same_shape) continue;
        } else if (!place.has_base && child.offset_bytes == 0 && pair.base.size_bytes > 0) {
            child.has_base = base_at_root(pair, level, child.base);
        }
        if (level == 0) {
            PPDSM_TRY(visit_leaf(child.id, span));
        } else {
            places[level].push_back(child);
        }
    }
    if (is_whole(place)) visited.insert(place.id, place.level);
    return {};
}

void ChunkPull::Impl::want_node(const Place& place) {
    Wanted& entry = wanted[place.id];
    const bool is_new = entry.nodes.empty() && entry.leaf_bytes == 0;
    entry.nodes.push_back(place);
    ++waiting_nodes;
    if (is_new) nodes.push_back(place.id);
    if (is_whole(place)) visited.insert(place.id, place.level);
}

Status ChunkPull::Impl::visit_leaf(const ChunkId& id, std::uint64_t length_bytes) {
    const std::size_t here_bytes = store.length_bytes(id);
    if (here_bytes == length_bytes) return {};
    if (here_bytes != 0) {
        return fail(Code::kCorrupt, "chunk " + id.to_string() + ": not a leaf of " +
                                        std::to_string(length_bytes) + " bytes");
    }
    Wanted& entry = wanted[id];
    const auto length = static_cast<std::uint16_t>(length_bytes);
    if (entry.leaf_bytes != 0) {
        if (entry.leaf_bytes == length) return {};
        return fail(Code::kCorrupt, "chunk " + id.to_string() + ": named as leaf of " +
                                        std::to_string(entry.leaf_bytes) + " and of " +
                                        std::to_string(length) + " bytes");
    }
    if (entry.nodes.empty()) leaves.push_back(id);
    entry.leaf_bytes = length;
    ++waiting_leaves;
    return {};
}

void ChunkPull::Impl::take(std::deque<ChunkId>& from, std::size_t most,
                           std::vector<ChunkId>& into) {
    while (!from.empty() && into.size() < most) {
        const auto entry = wanted.find(from.front());
        from.pop_front();
        if (entry == wanted.end() || entry->second.asked) continue;  // Came some other way.
        entry->second.asked = true;
        ++asked;
        into.push_back(entry->first);
    }
}

ChunkPull::ChunkPull(ChunkLookup& store, const Manifest& manifest, const Manifest* base)
    : impl_(std::make_unique<Impl>(store, manifest, base)) {}
ChunkPull::~ChunkPull() = default;

Result<std::vector<ChunkId>> ChunkPull::next_request(std::size_t most) {
    PPDSM_TRY(impl_->walk());
    std::vector<ChunkId> names;
    impl_->take(impl_->retries, most, names);
    impl_->take(impl_->nodes, most, names);
    impl_->take(impl_->leaves, most, names);
    return names;
}

bool ChunkPull::expects(const ChunkId& id) const { return impl_->wanted.contains(id); }

Status ChunkPull::arrived(const ChunkId& id, std::size_t length_bytes) {
    const auto found = impl_->wanted.find(id);
    if (found == impl_->wanted.end()) return {};
    Wanted& entry = found->second;
    if (entry.leaf_bytes != 0 && entry.leaf_bytes != length_bytes) {
        return fail(Code::kCorrupt, "chunk " + id.to_string() + ": not a leaf of " +
                                        std::to_string(entry.leaf_bytes) + " bytes");
    }
    // Looked at again by walk(), which finds it present: its content need not be held until then.
    for (Place& place : entry.nodes) {
        place.has_arrived = true;
        impl_->places[place.level].push_back(place);
    }
    impl_->waiting_nodes -= entry.nodes.size();
    if (entry.leaf_bytes != 0) --impl_->waiting_leaves;
    if (entry.asked) --impl_->asked;
    impl_->wanted.erase(found);
    return {};
}

void ChunkPull::ask_again(const ChunkId& id) {
    const auto found = impl_->wanted.find(id);
    if (found == impl_->wanted.end() || !found->second.asked) return;
    found->second.asked = false;
    --impl_->asked;
    impl_->retries.push_back(id);
}

bool ChunkPull::done() const {
    return impl_->next_blob == impl_->blobs.size() && impl_->wanted.empty() &&
           std::ranges::all_of(impl_->places, [](const auto& at) { return at.empty(); });
}

std::size_t ChunkPull::in_flight() const { return impl_->asked; }

std::size_t ChunkPull::held_entries() const {
    std::size_t held = impl_->waiting_nodes + impl_->waiting_leaves;
    for (const auto& at : impl_->places) held += at.size();
    return held;
}

}  // namespace ppdsm
