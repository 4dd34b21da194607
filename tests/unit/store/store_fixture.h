// What the store's tests share: a directory of the test's own, and content made from seeds.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "criu-glue/store/blob.h"
#include "criu-glue/store/chunk_store.h"

namespace ppdsm::testing_store {

constexpr std::size_t kPage = ChunkStore::kMaxChunkBytes;

/// Bytes that LZ4 cannot shorten.
inline Bytes noise(std::size_t size_bytes, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    Bytes bytes(size_bytes + 8);
    for (std::size_t at = 0; at < size_bytes; at += 8) {
        const std::uint64_t word = random();
        std::memcpy(bytes.data() + at, &word, 8);
    }
    bytes.resize(size_bytes);
    return bytes;
}

/// Bytes that LZ4 shortens well, different for each seed.
inline Bytes prose(std::size_t size_bytes, std::uint64_t seed) {
    std::string text;
    while (text.size() < size_bytes) {
        text += "line " + std::to_string(text.size()) + " of " + std::to_string(seed) + "; ";
    }
    const ByteView bytes = as_bytes(text).first(size_bytes);
    return {bytes.begin(), bytes.end()};
}

class StoreFixture : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = std::filesystem::temp_directory_path() / "ppdsm-store-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        home_ = pattern;
        directory_ = home_ / "chunks";
    }
    void TearDown() override { std::filesystem::remove_all(home_); }

    [[nodiscard]] std::unique_ptr<ChunkStore> open(
        ChunkStore::Mode mode = ChunkStore::Mode::kWrite) const {
        Result<std::unique_ptr<ChunkStore>> store = ChunkStore::open(directory_, mode);
        EXPECT_TRUE(store) << store.error().message();
        return store ? std::move(*store) : nullptr;
    }
    [[nodiscard]] std::vector<std::filesystem::path> packs() const {
        std::vector<std::filesystem::path> found;
        for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
            if (entry.path().extension() == ".ppk") found.push_back(entry.path());
        }
        std::ranges::sort(found);
        return found;
    }

    std::filesystem::path home_;
    std::filesystem::path directory_;
};

}  // namespace ppdsm::testing_store
