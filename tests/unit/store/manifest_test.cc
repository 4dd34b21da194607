// Goal: a manifest comes back as it was or not at all, and the format holds. Method: round trips,
// every byte flipped, every length, forged bytes under right checksums, and a golden file.
#include "criu-glue/manifest/manifest.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <random>

#include "tests/unit/store/manifest_golden.h"

namespace ppdsm {
namespace {

constexpr std::size_t kHeaderBytes = 32;
constexpr std::size_t kChecksumAt = 24;

BlobRef blob(std::uint64_t size_bytes, std::string_view text) {
    return {size_bytes, ChunkId::of(as_bytes(text))};
}

Manifest example() {
    Manifest manifest;
    manifest.vc_id = "vc-7f3a";
    manifest.epoch = 3;
    manifest.generation = 42;
    manifest.predecessor = 41;
    manifest.created_unix_ms = 1'700'000'000'123;
    manifest.pause_us = 23'000;
    manifest.cut_us = 1'500;
    manifest.input_offset_bytes = 10;
    manifest.output_offset_bytes = std::uint64_t{5} << 30;
    manifest.terminal = true;
    manifest.stdio = {"pipe:[4711]", "", "pipe:[4712]"};
    manifest.images = {{"pages-1.img", blob(8192, "pages")}, {"empty.img", {}}};
    LayerEntry root;
    root.type = LayerEntry::Type::kDirectory;
    root.mode = 0755;
    LayerEntry file;
    file.path = "d\xff/data";  // Not UTF-8.
    file.mode = 04711;
    file.uid = 1000;
    file.gid = 1001;
    file.mtime_ns = -1;
    file.content = blob(5, "file");
    file.attributes = {{"user.note", std::string("a\0b", 3)}, {"trusted.overlay.opaque", ""}};
    LayerEntry device;
    device.path = "null";
    device.type = LayerEntry::Type::kDevice;
    device.device = 259;
    LayerEntry link;
    link.path = "second";
    link.type = LayerEntry::Type::kHardLink;
    link.target = "d\xff/data";
    LayerEntry symlink;
    symlink.path = "way out";
    symlink.type = LayerEntry::Type::kSymlink;
    symlink.target = "/etc/passwd";
    manifest.layers = {{"tmp", {root, file, device, link, symlink}}, {"/home/u/work", {}}};
    manifest.mounts = {{"mnt[usr]", "/usr"}};
    manifest.host = {"4.1.1", "6.18.0", "x86_64", {"avx2", "sse2"}};
    manifest.bytes_new = 100;
    manifest.bytes_total = 8197;
    return manifest;
}

void seal(Bytes& bytes) {
    const std::uint64_t of_header = XXH3_64bits(bytes.data(), kChecksumAt);
    const std::uint64_t checksum =
        XXH3_64bits_withSeed(bytes.data() + kHeaderBytes, bytes.size() - kHeaderBytes, of_header);
    std::memcpy(bytes.data() + kChecksumAt, &checksum, 8);
}

TEST(Manifest, ComesBackAsItWas) {
    const Manifest manifest = example();
    const Bytes bytes = encode_manifest(manifest).value();
    EXPECT_EQ(bytes, encode_manifest(manifest).value());
    const Result<Manifest> back = decode_manifest(bytes);
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(*back, manifest);
    EXPECT_EQ(decode_manifest(encode_manifest(Manifest{}).value()).value(), Manifest{});
    // From memory of any alignment.
    Bytes shifted(1);
    shifted.insert(shifted.end(), bytes.begin(), bytes.end());
    EXPECT_EQ(decode_manifest(ByteView(shifted).subspan(1)).value(), manifest);
}

TEST(Manifest, GoldenBytesOfVersionOneAreStillRead) {
    Bytes golden;
    for (std::size_t i = 0; i + 1 < kGoldenManifest.size(); i += 2) {
        golden.push_back(static_cast<std::uint8_t>(
            std::stoi(std::string(kGoldenManifest.substr(i, 2)), nullptr, 16)));
    }
    const Result<Manifest> manifest = decode_manifest(golden);
    ASSERT_TRUE(manifest) << manifest.error().message();
    EXPECT_EQ(*manifest, example());
    // Another version of FlatBuffers may lay its tables out otherwise, but not our header.
    const Bytes now = encode_manifest(example()).value();
    EXPECT_TRUE(std::equal(golden.begin(), golden.begin() + 16, now.begin()));
}

TEST(Manifest, EveryFlippedByteIsFound) {
    const Bytes sound = encode_manifest(example()).value();
    for (std::size_t at = 0; at < sound.size(); ++at) {
        for (unsigned bit = 0; bit < 8; ++bit) {
            Bytes changed = sound;
            changed[at] = static_cast<std::uint8_t>(changed[at] ^ (1U << bit));
            const Result<Manifest> decoded = decode_manifest(changed);
            ASSERT_FALSE(decoded) << "byte " << at << " bit " << bit;
            EXPECT_EQ(decoded.error().code(), Code::kCorrupt);
        }
    }
}

TEST(Manifest, EveryOtherLengthIsFound) {
    Bytes bytes = encode_manifest(example()).value();
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_EQ(decode_manifest(ByteView(bytes).first(size)).error().code(), Code::kCorrupt);
    }
    bytes.push_back(0);
    EXPECT_EQ(decode_manifest(bytes).error().code(), Code::kCorrupt);
    EXPECT_EQ(decode_manifest(as_bytes("not a manifest, but long enough for one")).error().code(),
              Code::kCorrupt);
}

TEST(Manifest, NewerVersionIsNamed) {
    Bytes bytes = encode_manifest(example()).value();
    bytes[8] = 7;
    seal(bytes);
    const Error error = decode_manifest(bytes).error();
    EXPECT_EQ(error.code(), Code::kUnsupported);
    EXPECT_NE(error.message().find("version 7"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("version 1"), std::string::npos) << error.message();
    bytes[8] = 0;
    seal(bytes);
    EXPECT_EQ(decode_manifest(bytes).error().code(), Code::kCorrupt);
}

TEST(Manifest, ForgedBytesDoNoHarm) {
    const Bytes sound = encode_manifest(example()).value();
    std::mt19937_64 random(5);
    for (int round = 0; round < 20000; ++round) {
        Bytes forged = sound;
        for (std::uint64_t i = 0; i <= random() % 4; ++i) {
            forged[kHeaderBytes + random() % (forged.size() - kHeaderBytes)] =
                static_cast<std::uint8_t>(random());
        }
        seal(forged);
        const Result<Manifest> decoded = decode_manifest(forged);
        if (!decoded) {
            EXPECT_EQ(decoded.error().code(), Code::kCorrupt);
            continue;
        }
        EXPECT_TRUE(encode_manifest(*decoded)) << "what is read keeps every rule";
    }
}

TEST(Manifest, OneStringIsNotReadAsAThousand) {
    constexpr std::uint32_t kFeatures = 1013;
    Manifest manifest = example();
    manifest.host.cpu_features.assign(kFeatures, "f");
    manifest.host.cpu_features.front().assign(10'000, 'f');
    Bytes bytes = encode_manifest(manifest).value();
    std::size_t vector = kHeaderBytes;
    const auto number_at = [&](std::size_t at) {
        std::uint32_t number = 0;
        std::memcpy(&number, bytes.data() + at, sizeof number);
        return number;
    };
    while (number_at(vector) != kFeatures) vector += sizeof kFeatures;
    // Each element says how far behind itself its string is: let all lead to the first one's.
    const std::size_t first = vector + sizeof kFeatures;
    const std::size_t target = first + number_at(first);
    for (std::uint32_t i = 0; i < kFeatures; ++i) {
        const std::size_t at = first + i * sizeof kFeatures;
        const auto offset = static_cast<std::uint32_t>(target - at);
        std::memcpy(bytes.data() + at, &offset, sizeof offset);
    }
    seal(bytes);
    const Result<Manifest> decoded = decode_manifest(bytes);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code(), Code::kCorrupt);
    EXPECT_NE(decoded.error().what().find("again and again"), std::string::npos);
}

TEST(Manifest, NamesThatLeadOutAreRefused) {
    const auto refused = [](const auto& change) {
        Manifest manifest = example();
        change(manifest);
        const Result<Bytes> encoded = encode_manifest(manifest);
        return !encoded && encoded.error().code() == Code::kInvalid;
    };
    for (const std::string path : {"/etc", "..", "a/../b", "a//b", "a/", "./a", "a/.", "../x"}) {
        EXPECT_TRUE(refused([&](Manifest& m) { m.layers[0].entries[1].path = path; })) << path;
        EXPECT_TRUE(refused([&](Manifest& m) { m.layers[0].entries[3].target = path; })) << path;
    }
    for (const std::string name : {"", ".", "..", "a/b", "/a"}) {
        EXPECT_TRUE(refused([&](Manifest& m) { m.images[0].name = name; })) << name;
    }
    EXPECT_TRUE(refused([](Manifest& m) { m.images[0].name += std::string("\0x", 2); }));
    EXPECT_TRUE(refused([](Manifest& m) { m.images[0].content.size_bytes = kMaxBlobBytes + 1; }));
    EXPECT_TRUE(refused([](Manifest& m) { m.images[0].content.root = {}; }));
    EXPECT_TRUE(refused([](Manifest& m) { m.images[1].content.root = ChunkId::of({}); }));
    EXPECT_TRUE(refused([](Manifest& m) { m.stdio.resize(4); }));
    EXPECT_TRUE(refused([](Manifest& m) { m.layers[0].entries[1].mode = 010000; }));
    EXPECT_TRUE(refused(
        [](Manifest& m) { m.layers[0].entries[1].type = static_cast<LayerEntry::Type>(8); }));
}

TEST(Manifest, VisitsEveryBlobInOrder) {
    std::vector<BlobRef> visited;
    for_each_blob(example(), [&](const BlobRef& visit) { visited.push_back(visit); });
    EXPECT_EQ(visited, (std::vector<BlobRef>{blob(8192, "pages"), {}, blob(5, "file")}));
}

TEST(Manifest, HundredThousandFilesAreFine) {
    Manifest manifest = example();
    for (int i = 0; i < 100000; ++i) {
        LayerEntry entry;
        entry.path = "f/" + std::to_string(1000000 + i);
        entry.content = blob(1, entry.path);
        manifest.layers[1].entries.push_back(std::move(entry));
    }
    const Bytes bytes = encode_manifest(manifest).value();
    EXPECT_EQ(decode_manifest(bytes).value(), manifest);
}

}  // namespace
}  // namespace ppdsm
