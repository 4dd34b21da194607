// What the tests of replication share: a virtual computer's directory written as an executor writes
// it, content made from seeds, and sources that misbehave.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "criu-glue/manifest/manifest.h"
#include "criu-glue/store/blob.h"
#include "criu-glue/store/chunk_store.h"
#include "dsm/io/loop.h"
#include "runtime/peer/home.h"
#include "runtime/peer/replication/chunk_server.h"
#include "runtime/peer/replication/generation_reader.h"
#include "runtime/peer/replication/hosted_replica.h"
#include "runtime/peer/replication/replica_store.h"

namespace ppdsm::testing_replication {

constexpr std::size_t kPage = ChunkStore::kMaxChunkBytes;
inline const std::string kVc = "vc-under-test";

/// A page made from a seed: of zeros, of text that LZ4 shortens to a third or so, or of noise.
inline void fill_page(std::uint64_t seed, std::uint8_t* page) {
    if (seed == 0) {
        std::memset(page, 0, kPage);
        return;
    }
    std::uint64_t state = seed * 0x9E3779B97F4A7C15U;
    for (std::size_t at = 0; at < kPage; at += 8) {
        state ^= state << 13U;
        state ^= state >> 7U;
        state ^= state << 17U;
        const std::uint64_t word =
            seed % 2 == 0 || at % 24 == 0 ? state : (at / 64) * 0x0101010101010101U;
        std::memcpy(page + at, &word, 8);
    }
}

/// Content as pages' seeds: cheap to keep, to change and to compare.
struct Pages {
    std::vector<std::uint64_t> seeds;
    std::size_t cut_bytes = 0;  ///< Missing from the last page; less than a page.

    [[nodiscard]] Bytes bytes() const {
        Bytes content(seeds.size() * kPage);
        for (std::size_t i = 0; i < seeds.size(); ++i) {
            fill_page(seeds[i], content.data() + i * kPage);
        }
        if (!seeds.empty()) content.resize(content.size() - cut_bytes);
        return content;
    }
};

/// Named contents: the images and files of a generation.
struct Content {
    std::vector<std::pair<std::string, Pages>> images;
    std::vector<std::pair<std::string, Pages>> files;
};

/// One step of a program's life: pages change, blobs grow, shrink, shift, come and go.
inline void mutate(Content& content, std::mt19937_64& random) {
    const auto change = [&](Pages& pages) {
        switch (random() % 8) {
            case 0:
                pages.seeds.resize(random() % 600);
                for (auto& seed : pages.seeds) {
                    if (seed == 0) seed = random() % 50;
                }
                break;
            case 1:
                pages.seeds.insert(pages.seeds.begin() + static_cast<std::ptrdiff_t>(
                                                             random() % (pages.seeds.size() + 1)),
                                   random());
                break;
            case 2: pages.cut_bytes = random() % kPage; break;
            case 3: {  // The same region twice.
                const Pages copy = pages;
                if (pages.seeds.size() < 600) {
                    pages.seeds.insert(pages.seeds.end(), copy.seeds.begin(), copy.seeds.end());
                }
                break;
            }
            default:
                for (auto& seed : pages.seeds) {
                    if (random() % 30 == 0) seed = random() % 7 == 0 ? 0 : random();
                }
        }
    };
    for (auto& [name, pages] : content.images) {
        if (random() % 2 == 0) change(pages);
    }
    for (auto& [name, pages] : content.files) {
        if (random() % 6 == 0) change(pages);
    }
    if (random() % 4 == 0 && content.images.size() > 1) content.images.pop_back();
    if (random() % 3 == 0) {
        Pages fresh;
        fresh.seeds.assign(random() % 40, random() % 5);
        content.images.emplace_back("image-" + std::to_string(random() % 1000000), fresh);
    }
}

inline Content first_content(std::mt19937_64& random) {
    Content content;
    for (const std::size_t pages : {0, 1, 17, 300}) {
        Pages blob;
        for (std::size_t i = 0; i < pages; ++i) blob.seeds.push_back(random());
        content.images.emplace_back("pages-" + std::to_string(pages), blob);
    }
    for (int i = 0; i < 12; ++i) {
        Pages blob{{random(), random()}, random() % kPage};
        content.files.emplace_back("file-" + std::to_string(100 + i), blob);
    }
    return content;
}

/// Writes generations as an executor does: chunks, flush, manifest; and retires them.
class Writer {
public:
    static std::unique_ptr<Writer> open(const VcPaths& paths) {
        EXPECT_TRUE(make_directories(paths.manifests(), 0700));
        auto store = ChunkStore::open(paths.chunks(), ChunkStore::Mode::kWrite);
        EXPECT_TRUE(store) << store.error().message();
        return store ? std::unique_ptr<Writer>(new Writer(paths, std::move(*store))) : nullptr;
    }

    Result<Manifest> commit(std::uint64_t generation, const Content& content,
                            std::uint64_t epoch = 1) {
        Manifest manifest;
        manifest.vc_id = paths_.id();
        manifest.epoch = epoch;
        manifest.generation = generation;
        manifest.predecessor = generation - 1;
        for (const auto& [name, pages] : content.images) {
            PPDSM_ASSIGN(const BlobRef blob, store_bytes(*store_, pages.bytes()));
            manifest.images.push_back({name, blob});
        }
        Layer layer;
        layer.name = "tmp";
        layer.entries.push_back({});
        layer.entries.back().type = LayerEntry::Type::kDirectory;
        for (const auto& [name, pages] : content.files) {
            LayerEntry entry;
            entry.path = name;
            PPDSM_ASSIGN(entry.content, store_bytes(*store_, pages.bytes()));
            layer.entries.push_back(std::move(entry));
        }
        manifest.layers.push_back(std::move(layer));
        for_each_blob(manifest,
                      [&](const BlobRef& blob) { manifest.bytes_total += blob.size_bytes; });
        PPDSM_TRY(store_->flush());
        PPDSM_ASSIGN(const Bytes encoded, encode_manifest(manifest));
        PPDSM_TRY(replace_file(paths_.manifest(generation), encoded, 0600));
        kept_[generation] = manifest;
        return manifest;
    }

    /// kUnavailable while somebody reads.
    Status retire(std::size_t keep) {
        PPDSM_ASSIGN(const OwnedFd claim, claim_generations(paths_));
        while (kept_.size() > keep) {
            ::unlink(paths_.manifest(kept_.begin()->first).c_str());
            kept_.erase(kept_.begin());
        }
        ChunkSet live;
        for (const auto& [generation, manifest] : kept_) {
            Status marked;
            for_each_blob(manifest, [&](const BlobRef& blob) {
                if (marked) marked = mark_blob(*store_, blob, live);
            });
            PPDSM_TRY(marked);
        }
        return store_->collect_garbage(live);
    }

    [[nodiscard]] ChunkStore& store() { return *store_; }
    [[nodiscard]] const VcPaths& paths() const { return paths_; }

private:
    Writer(VcPaths paths, std::unique_ptr<ChunkStore> store)
        : paths_(std::move(paths)), store_(std::move(store)) {}
    VcPaths paths_;
    std::unique_ptr<ChunkStore> store_;
    std::map<std::uint64_t, Manifest> kept_;
};

/// The generation in `paths` has exactly this content, and every chunk of it can be read.
inline void expect_content(const VcPaths& paths, std::uint64_t generation, const Content& content) {
    const auto bytes = read_file(paths.manifest(generation));
    ASSERT_TRUE(bytes) << bytes.error().message();
    const auto manifest = decode_manifest(*bytes);
    ASSERT_TRUE(manifest) << manifest.error().message();
    const auto store = ChunkStore::open(paths.chunks(), ChunkStore::Mode::kRead);
    ASSERT_TRUE(store) << store.error().message();
    const auto expect_blob = [&](const std::string& name, const BlobRef& blob, const Pages& pages) {
        const auto loaded = load_blob(**store, blob, std::uint64_t{1} << 32);
        ASSERT_TRUE(loaded) << name << ": " << loaded.error().message();
        EXPECT_TRUE(*loaded == pages.bytes()) << name << " of generation " << generation;
    };
    ASSERT_EQ(manifest->images.size(), content.images.size());
    for (std::size_t i = 0; i < content.images.size(); ++i) {
        expect_blob(content.images[i].first, manifest->images[i].content, content.images[i].second);
    }
    ASSERT_EQ(manifest->layers.size(), 1U);
    ASSERT_EQ(manifest->layers[0].entries.size(), content.files.size() + 1);
    for (std::size_t i = 0; i < content.files.size(); ++i) {
        expect_blob(content.files[i].first, manifest->layers[0].entries[i + 1].content,
                    content.files[i].second);
    }
}

class ReplicationFixture : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern =
            std::filesystem::temp_directory_path() / "ppdsm-test-replication-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        home_ = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(home_); }

    /// A peer's directory of the VC.
    [[nodiscard]] VcPaths peer(const std::string& name) const {
        return {home_ / name / "hosted" / kVc};
    }

    std::filesystem::path home_;
};

/// Pulls without a loop, one request at a time. `between` is called after every batch.
inline Result<PullReport> pull_blocking(GenerationReader& from, ReplicaStore& into,
                                        std::uint64_t generation,
                                        const std::function<void()>& between = {},
                                        std::size_t names_per_request = 200) {
    PPDSM_ASSIGN(const GenerationOffer offer, from.begin(generation));
    const auto pull = [&]() -> Result<PullReport> {
        PPDSM_ASSIGN(const Bytes manifest, read_file(std::filesystem::path(from.directory()) /
                                                     "manifests" / std::to_string(generation)));
        PPDSM_ASSIGN(const bool held, into.begin(offer, manifest));
        if (held) return PullReport{};
        for (;;) {
            PPDSM_ASSIGN(const std::vector<ChunkId> names, into.next_request(names_per_request));
            if (names.empty()) break;
            const ChunkBatch batch = from.read({offer.vc, generation, names});
            PPDSM_ASSIGN(const ReplicaStore::Accepted accepted, into.accept(names, batch));
            PPDSM_TRY(accepted.answer);
            if (!accepted.lacking.empty()) return fail(Code::kNotFound, "the source lacks chunks");
            if (between) between();
        }
        return into.finish();
    };
    Result<PullReport> report = pull();
    from.end(generation);
    if (!report) into.break_off(report.error());
    return report;
}

/// A source whose requests and answers are encoded and decoded as on a wire, and may be spoilt.
class WireSource : public ChunkSource {
public:
    /// May change, lose (false: never answered) or replace an answer.
    using Spoil = std::function<bool(Result<ChunkBatch>&)>;

    WireSource(Loop& loop, std::string name, std::shared_ptr<ChunkServer> server, Spoil spoil = {})
        : loop_(loop),
          name_(std::move(name)),
          server_(std::move(server)),
          spoil_(std::move(spoil)) {}

    [[nodiscard]] std::string name() const override { return name_; }
    void request(ChunkRequest request, OnBatch answer) override {
        const Bytes encoded = encode_chunk_request(request);
        EXPECT_LE(encoded.size(), kMaxChunkMessageBytes);
        auto decoded = decode_chunk_request(encoded);
        ASSERT_TRUE(decoded);
        ++requests;
        server_->request(std::move(*decoded),
                         [this, answer = std::move(answer)](Result<ChunkBatch> batch) {
                             if (batch) {
                                 EXPECT_LE(batch->payload.size(), kMaxChunkMessageBytes);
                                 bytes += batch->payload.size();
                             }
                             if (!spoil_ || spoil_(batch)) answer(std::move(batch));
                         });
    }
    void request_manifest(ManifestRequest request, OnPiece answer) override {
        const auto decoded = decode_manifest_request(encode_manifest_request(request));
        ASSERT_TRUE(decoded);
        ++manifest_requests;
        server_->request_manifest(*decoded, std::move(answer));
    }
    void end(const std::string& vc, std::uint64_t generation) override {
        ++ended;
        static_cast<ChunkSource&>(*server_).end(vc, generation);
    }

    std::size_t requests = 0;
    std::size_t manifest_requests = 0;
    std::size_t ended = 0;
    std::uint64_t bytes = 0;

private:
    Loop& loop_;
    std::string name_;
    std::shared_ptr<ChunkServer> server_;
    Spoil spoil_;
};

}  // namespace ppdsm::testing_replication
