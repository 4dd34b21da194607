// Goal: the walk asks for exactly what is lacking, believes nothing below a node that is merely
// present, and holds little. Method: chains of random generations against a store in memory from
// which random garbage vanishes; images of many GiB whose nodes are computed, not stored.
#include <deque>
#include <unordered_map>

#include "runtime/peer/replication/chunk_pull.h"
#include "tests/unit/peer/replication_fixture.h"

namespace ppdsm {
namespace {

using namespace testing_replication;

class MemoryStore : public ChunkLookup {
public:
    [[nodiscard]] std::size_t length_bytes(const ChunkId& id) const override {
        const auto found = chunks.find(id);
        return found == chunks.end() ? 0 : found->second.size();
    }
    [[nodiscard]] bool contains(const ChunkId& id) const { return chunks.contains(id); }
    Result<ByteView> view(const ChunkId& id) override {
        const auto found = chunks.find(id);
        if (found == chunks.end()) return fail(Code::kNotFound, "absent");
        return ByteView(found->second);
    }
    std::unordered_map<ChunkId, Bytes, ChunkIdHash> chunks;
};

class ChunkPullTest : public ReplicationFixture {
protected:
    /// All chunks of a generation.
    static ChunkSet chunks_of(ChunkStore& store, const Manifest& manifest) {
        ChunkSet marked;
        for_each_blob(manifest,
                      [&](const BlobRef& blob) { EXPECT_TRUE(mark_blob(store, blob, marked)); });
        // Marks of whole subtrees are names of no chunk.
        std::erase_if(marked, [&](const ChunkId& id) { return !store.contains(id); });
        return marked;
    }

    /// Runs a pull to its end in random steps; returns what was fetched.
    static ChunkSet run(ChunkPull& pull, ChunkStore& origin, MemoryStore& into,
                        std::mt19937_64& random) {
        ChunkSet fetched;
        std::vector<ChunkId> asked;
        for (int idle = 0; idle < 2;) {
            const auto next = pull.next_request(1 + random() % 50);
            EXPECT_TRUE(next) << next.error().message();
            if (!next) return fetched;
            for (const ChunkId& id : *next) {
                EXPECT_FALSE(into.contains(id)) << "asked for what is here";
                EXPECT_TRUE(std::ranges::find(asked, id) == asked.end()) << "asked for twice";
                asked.push_back(id);
            }
            EXPECT_EQ(pull.in_flight(), asked.size());
            idle = next->empty() && asked.empty() ? idle + 1 : 0;
            std::ranges::shuffle(asked, random);
            for (std::size_t answers = random() % 60; answers > 0 && !asked.empty(); --answers) {
                const ChunkId id = asked.back();
                asked.pop_back();
                if (random() % 10 == 0) {
                    pull.ask_again(id);
                    continue;
                }
                const Bytes content = origin.get(id).value();
                into.chunks[id] = content;
                EXPECT_TRUE(fetched.insert(id).second);
                EXPECT_TRUE(pull.arrived(id, content.size()));
            }
        }
        EXPECT_TRUE(pull.done());
        return fetched;
    }
};

TEST_F(ChunkPullTest, FetchesWhatIsLackingAndNothingElse) {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937_64 random(seed);
        const auto writer = Writer::open(peer("origin-" + std::to_string(seed)));
        MemoryStore replica;
        Content content = first_content(random);
        std::map<std::uint64_t, Manifest> held;
        for (std::uint64_t generation = 1; generation <= 12; ++generation) {
            const Manifest manifest = writer->commit(generation, content).value();
            const ChunkSet wanted = chunks_of(writer->store(), manifest);
            ChunkSet lacking = wanted;
            std::erase_if(lacking, [&](const ChunkId& id) { return replica.contains(id); });
            const Manifest* base = nullptr;
            if (!held.empty() && random() % 4 != 0) {
                base = &std::next(held.begin(), static_cast<std::ptrdiff_t>(random() % held.size()))
                            ->second;
            }
            {
                ChunkPull pull(replica, manifest, base);
                EXPECT_EQ(run(pull, writer->store(), replica, random), lacking);
            }
            for (const ChunkId& id : wanted) ASSERT_TRUE(replica.contains(id));
            held[generation] = manifest;
            // Some generations are dropped, and some of what is garbage then is collected.
            while (held.size() > 1 && random() % 2 == 0) held.erase(held.begin());
            ChunkSet live;
            for (const auto& [number, kept] : held) {
                for (const ChunkId& id : chunks_of(writer->store(), kept)) live.insert(id);
            }
            std::erase_if(replica.chunks, [&](const auto& chunk) {
                return !live.contains(chunk.first) && random() % 3 != 0;
            });
            mutate(content, random);
            if (HasFailure()) return;
        }
    }
}

TEST_F(ChunkPullTest, NodeThatIsPresentSaysNothingOfWhatIsBelow) {
    const auto writer = Writer::open(peer("origin"));
    Content content;
    content.images.push_back({"pages", {}});
    for (std::uint64_t i = 1; i <= 4096; ++i) content.images[0].second.seeds.push_back(i);
    const Manifest manifest = writer->commit(1, content).value();
    const ChunkSet all = chunks_of(writer->store(), manifest);
    // All nodes are there, and not one leaf: garbage is collected pack by pack.
    MemoryStore replica;
    std::size_t leaves = 0;
    for (const ChunkId& id : all) {
        const Bytes chunk = writer->store().get(id).value();
        if (chunk.size() == kPage) {
            ++leaves;
        } else {
            replica.chunks[id] = chunk;
        }
    }
    std::mt19937_64 random(1);
    ChunkPull pull(replica, manifest, nullptr);
    EXPECT_EQ(run(pull, writer->store(), replica, random).size(), leaves);
    EXPECT_EQ(leaves, 4096U);
}

TEST_F(ChunkPullTest, AsksOnceForWhatStandsInManyPlaces) {
    const auto writer = Writer::open(peer("origin"));
    Content content;
    content.images.push_back({"zeros", {std::vector<std::uint64_t>(20000), 0}});
    content.images.push_back({"more", {std::vector<std::uint64_t>(20011), 5}});
    const Manifest manifest = writer->commit(1, content).value();
    MemoryStore replica;
    std::mt19937_64 random(2);
    ChunkPull pull(replica, manifest, nullptr);
    EXPECT_LT(run(pull, writer->store(), replica, random).size(), 20U);
}

TEST_F(ChunkPullTest, RefusesATreeOfAnotherShape) {
    const auto writer = Writer::open(peer("origin"));
    Content content;
    content.images.push_back({"pages", {std::vector<std::uint64_t>(100, 3), 0}});
    for (std::uint64_t i = 0; i < 100; ++i) content.images[0].second.seeds[i] = i + 1;
    const Manifest right = writer->commit(1, content).value();
    const std::uint64_t size_bytes = right.images[0].content.size_bytes;
    for (const std::uint64_t wrong_bytes :
         {size_bytes - 1, size_bytes + 1, size_bytes - kPage, size_bytes + 20 * kPage,
          size_bytes * 16, std::uint64_t{kPage}}) {
        SCOPED_TRACE(wrong_bytes);
        Manifest manifest = right;
        manifest.images[0].content.size_bytes = wrong_bytes;
        // Also where a base has the same names: sizes decide the shape.
        for (const Manifest* base : {static_cast<const Manifest*>(nullptr), &right}) {
            MemoryStore replica;
            if (base != nullptr) {
                for (const ChunkId& id : chunks_of(writer->store(), right)) {
                    replica.chunks[id] = writer->store().get(id).value();
                }
            }
            ChunkPull pull(replica, manifest, base);
            Status state;
            for (int i = 0; i < 1000 && state && !pull.done(); ++i) {
                const auto next = pull.next_request(1);
                if (!next) state = fail(next.error());
                for (std::size_t k = 0; state && k < next->size(); ++k) {
                    const Bytes chunk = writer->store().get((*next)[k]).value();
                    replica.chunks[(*next)[k]] = chunk;
                    state = pull.arrived((*next)[k], chunk.size());
                }
            }
            ASSERT_FALSE(state);
            EXPECT_EQ(state.error().code(), Code::kCorrupt) << state.error().message();
        }
    }
}

/// An image of which no byte is stored: a name tells its level and place, `arrived` what is here.
class ComputedImage : public ChunkLookup {
public:
    static ChunkId name(unsigned level, std::uint64_t index) {
        ChunkId id;
        const std::uint64_t mixed = (index + 1) * 0x9E3779B97F4A7C15U + level;
        std::memcpy(id.bytes.data(), &mixed, 8);
        id.bytes[8] = static_cast<std::uint8_t>(level);
        for (unsigned i = 0; i < 6; ++i) {
            id.bytes[9 + i] = static_cast<std::uint8_t>(index >> (8 * i));
        }
        return id;
    }
    static unsigned level_of(const ChunkId& id) { return id.bytes[8]; }
    static std::uint64_t index_of(const ChunkId& id) {
        std::uint64_t index = 0;
        for (unsigned i = 0; i < 6; ++i) index |= std::uint64_t{id.bytes[9 + i]} << (8 * i);
        return index;
    }

    [[nodiscard]] std::size_t length_bytes(const ChunkId& id) const override {
        return here.contains(id) ? 256 : 0;
    }
    Result<ByteView> view(const ChunkId& id) override {
        node.clear();
        for (std::uint64_t i = 0; i < 16; ++i) {
            const ChunkId child = name(level_of(id) - 1, index_of(id) * 16 + i);
            node.insert(node.end(), child.bytes.begin(), child.bytes.end());
        }
        return ByteView(node);
    }
    ChunkSet here;  ///< Nodes only.
    Bytes node;
};

TEST_F(ChunkPullTest, HoldsLittleOfALargeImage) {
    constexpr unsigned kHeight = 5;
    Manifest manifest;
    manifest.images.push_back(
        {"pages", {std::uint64_t{4} << 30, ComputedImage::name(kHeight, 0)}});  // 16^5 pages.
    for (const std::size_t window : {std::size_t{64}, std::size_t{8192}}) {
        ComputedImage store;
        ChunkPull pull(store, manifest, nullptr);
        std::deque<ChunkId> asked;
        std::size_t most_held = 0;
        std::size_t leaves = 0;
        std::uint64_t steps_back = 0;
        std::uint64_t last_leaf = 0;
        for (;;) {
            const std::size_t room = window - std::min(window, asked.size());
            const auto next = pull.next_request(std::min<std::size_t>(room, 4096));
            ASSERT_TRUE(next);
            asked.insert(asked.end(), next->begin(), next->end());
            most_held = std::max(most_held, pull.held_entries());
            if (asked.empty()) break;
            const ChunkId id = asked.front();
            asked.pop_front();
            const bool leaf = ComputedImage::level_of(id) == 0;
            if (leaf) {
                ++leaves;
                const std::uint64_t at = ComputedImage::index_of(id);
                if (at < last_leaf) ++steps_back;
                last_leaf = at;
            } else {
                store.here.insert(id);
            }
            ASSERT_TRUE(pull.arrived(id, leaf ? kPage : 256));
        }
        EXPECT_TRUE(pull.done());
        EXPECT_EQ(leaves, std::size_t{1} << 20);
        EXPECT_LE(most_held, ChunkPull::kMaxLeaves + 16 + kHeight * (ChunkPull::kMaxNodes + 16));
        // Where the pages lie in this order in packs, blocks are mostly asked for as a whole.
        EXPECT_LT(steps_back, leaves / 64);
    }
}

}  // namespace
}  // namespace ppdsm
