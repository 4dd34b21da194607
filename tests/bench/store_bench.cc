// How fast memory goes into the chunk store and comes back, beside memcpy of the same pages. Two
// kinds of content: noise, which LZ4 cannot shorten, and records (64-bit words of which 24 bits
// vary), which it halves. The store lies on a tmpfs where there is one: the disk is not the
// subject. Bytes a second are of content.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <vector>

#include "criu-glue/store/blob.h"
#include "criu-glue/store/chunk_store.h"
#include "criu-glue/store/pack_format.h"

namespace ppdsm {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPage = ChunkStore::kMaxChunkBytes;
constexpr std::size_t kContentBytes = std::size_t{64} << 20;
constexpr std::size_t kPages = kContentBytes / kPage;

enum Kind : std::int64_t { kNoise = 0, kRecords = 1 };

/// 64 MiB of which no two pages are equal; other seeds share no page with it.
Bytes content(std::int64_t kind, std::uint64_t seed) {
    constexpr std::uint64_t kVarying = 0xFF'FFFF;
    std::mt19937_64 random(seed);
    Bytes bytes(kContentBytes);
    for (std::size_t at = 0; at < bytes.size(); at += 8) {
        const std::uint64_t word = kind == kNoise ? random() : random() & kVarying;
        std::memcpy(bytes.data() + at, &word, 8);
    }
    return bytes;
}

ByteView page_of(const Bytes& bytes, std::size_t page) {
    return ByteView(bytes).subspan(page * kPage, kPage);
}

/// A store in a directory of its own, removed at the end.
class ScratchStore {
public:
    ScratchStore() {
        std::string pattern =
            fs::exists("/dev/shm") ? "/dev/shm/ppdsm-bench-XXXXXX" : "/var/tmp/ppdsm-bench-XXXXXX";
        if (::mkdtemp(pattern.data()) == nullptr) std::abort();
        directory_ = pattern;
        auto opened = ChunkStore::open(directory_ / "chunks", ChunkStore::Mode::kWrite);
        if (!opened) std::abort();
        store_ = *std::move(opened);
    }
    ScratchStore(const ScratchStore&) = delete;
    ScratchStore& operator=(const ScratchStore&) = delete;
    ~ScratchStore() {
        store_.reset();
        std::error_code ignored;
        fs::remove_all(directory_, ignored);
    }
    ChunkStore& operator*() { return *store_; }
    ChunkStore* operator->() { return store_.get(); }

private:
    fs::path directory_;
    std::unique_ptr<ChunkStore> store_;
};

void count_bytes(benchmark::State& state) {
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kContentBytes));
}

void put_all(ChunkStore& store, const Bytes& bytes) {
    for (std::size_t page = 0; page < kPages; ++page) {
        if (!store.put(page_of(bytes, page))) std::abort();
    }
}

void copy_pages(benchmark::State& state) {
    const Bytes from = content(kNoise, 1);
    Bytes to(kContentBytes);
    for (auto unused : state) {
        for (std::size_t page = 0; page < kPages; ++page) {
            std::memcpy(to.data() + page * kPage, from.data() + page * kPage, kPage);
        }
        benchmark::ClobberMemory();
    }
    count_bytes(state);
}

void hash_pages(benchmark::State& state) {
    const Bytes bytes = content(kNoise, 1);
    for (auto unused : state) {
        for (std::size_t page = 0; page < kPages; ++page) {
            benchmark::DoNotOptimize(ChunkId::of(page_of(bytes, page)));
        }
    }
    count_bytes(state);
}

void compress_blocks(benchmark::State& state) {
    const Bytes bytes = content(state.range(0), 1);
    std::size_t stored_bytes = 0;
    for (auto unused : state) {
        stored_bytes = 0;
        for (std::size_t at = 0; at < bytes.size(); at += pack::kMaxBlockBytes) {
            const ByteView block = ByteView(bytes).subspan(at, pack::kMaxBlockBytes);
            stored_bytes += pack::compress_block(block).stored.size();
        }
    }
    count_bytes(state);
    state.counters["shrinks_to"] =
        static_cast<double>(stored_bytes) / static_cast<double>(kContentBytes);
}

void put_new_pages(benchmark::State& state) {
    ScratchStore store;
    std::uint64_t seed = 0;
    for (auto unused : state) {
        state.PauseTiming();
        const Bytes bytes = content(state.range(0), ++seed);
        state.ResumeTiming();
        put_all(*store, bytes);
        state.PauseTiming();
        if (!store->flush() || !store->collect_garbage({})) std::abort();
        state.ResumeTiming();
    }
    count_bytes(state);
}

void put_known_pages(benchmark::State& state) {
    ScratchStore store;
    const Bytes bytes = content(kNoise, 1);
    put_all(*store, bytes);
    if (!store->flush()) std::abort();
    for (auto unused : state) put_all(*store, bytes);
    count_bytes(state);
}

void get_pages(benchmark::State& state) {
    ScratchStore store;
    const Bytes bytes = content(state.range(0), 1);
    std::vector<ChunkId> names;
    names.reserve(kPages);
    for (std::size_t page = 0; page < kPages; ++page)
        names.push_back(*store->put(page_of(bytes, page)));
    if (!store->flush()) std::abort();
    for (auto unused : state) {
        for (const ChunkId& name : names) {
            if (!store->view(name)) std::abort();
        }
    }
    count_bytes(state);
}

OwnedFd file_of(const Bytes& bytes) {
    OwnedFd file(::memfd_create("content", MFD_CLOEXEC));
    if (!write_all(file, bytes)) std::abort();
    return file;
}

/// As a checkpoint does it: hashed and compressed by all cores, with the Merkle tree.
void store_new_file(benchmark::State& state) {
    ScratchStore store;
    std::uint64_t seed = 0;
    for (auto unused : state) {
        state.PauseTiming();
        const OwnedFd file = file_of(content(state.range(0), ++seed));
        state.ResumeTiming();
        if (!store_file(*store, file) || !store->flush()) std::abort();
        state.PauseTiming();
        if (!store->collect_garbage({})) std::abort();
        state.ResumeTiming();
    }
    count_bytes(state);
}

void store_known_file(benchmark::State& state) {
    ScratchStore store;
    const OwnedFd file = file_of(content(kNoise, 1));
    if (!store_file(*store, file) || !store->flush()) std::abort();
    for (auto unused : state) {
        if (!store_file(*store, file)) std::abort();
    }
    count_bytes(state);
}

/// As a restore does it.
void write_file_back(benchmark::State& state) {
    ScratchStore store;
    const OwnedFd file = file_of(content(state.range(0), 1));
    const Result<BlobRef> blob = store_file(*store, file);
    if (!blob || !store->flush()) std::abort();
    for (auto unused : state) {
        const OwnedFd back(::memfd_create("back", MFD_CLOEXEC));
        if (!write_blob_to(*store, *blob, back)) std::abort();
    }
    count_bytes(state);
}

BENCHMARK(copy_pages)->UseRealTime();
BENCHMARK(hash_pages)->UseRealTime();
BENCHMARK(compress_blocks)->Arg(kNoise)->Arg(kRecords)->UseRealTime();
BENCHMARK(put_new_pages)->Arg(kNoise)->Arg(kRecords)->UseRealTime();
BENCHMARK(put_known_pages)->UseRealTime();
BENCHMARK(get_pages)->Arg(kNoise)->Arg(kRecords)->UseRealTime();
BENCHMARK(store_new_file)->Arg(kNoise)->Arg(kRecords)->UseRealTime();
BENCHMARK(store_known_file)->UseRealTime();
BENCHMARK(write_file_back)->Arg(kNoise)->Arg(kRecords)->UseRealTime();

}  // namespace
}  // namespace ppdsm

BENCHMARK_MAIN();
