// Goal: peers of this release understand what those of an earlier one wrote, and nothing that comes
// from outside can do more than be refused. Method: examples kept as files in tests/golden are
// decoded by today's code and must mean what they meant; every example is changed at random,
// thousands of times, and decoded (CONTRIBUTING.md says how to fuzz for longer).
#include "tests/fuzz/formats.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "runtime/core/seeded_random.h"
#include "tests/fuzz/held_memory.h"

namespace ppdsm::fuzz {
namespace {

class Formats : public testing::TestWithParam<std::size_t> {
protected:
    [[nodiscard]] const Format& format() const { return formats()[GetParam()]; }
    [[nodiscard]] std::filesystem::path golden() const {
        return std::filesystem::path(PPDSM_GOLDEN) / (format().name + ".bin");
    }
};

TEST_P(Formats, MeanWhatTheyMeant) {
    if (std::getenv("PPDSM_UPDATE_GOLDEN") != nullptr) {
        std::ofstream(golden(), std::ios::binary)
            .write(reinterpret_cast<const char*>(format().sample.data()),
                   static_cast<std::streamsize>(format().sample.size()));
    }
    const Result<Bytes> kept = read_file(golden(), std::size_t{1} << 20);
    ASSERT_TRUE(kept) << kept.error().message();
    const Result<Bytes> again = format().again(*kept);
    ASSERT_TRUE(again) << "cannot be read any more; raise the version in dsm/WIRE.md: "
                       << again.error().message();
    const Result<Bytes> today = format().again(format().sample);
    ASSERT_TRUE(today) << today.error().message();
    EXPECT_EQ(*again, *today) << "means something else now; raise the version in dsm/WIRE.md";
}

Bytes changed(Bytes bytes, SeededRandom& random) {
    const std::size_t changes = 1 + random.below(8);
    for (std::size_t i = 0; i < changes && !bytes.empty(); ++i) {
        const std::size_t at = random.below(bytes.size());
        switch (random.below(6)) {
            case 0:
                bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ (1U << random.below(8)));
                break;
            case 1: bytes[at] = static_cast<std::uint8_t>(random.next()); break;
            case 2: bytes.resize(at); break;
            case 3: bytes.insert(bytes.end(), 1 + random.below(64), 0xFF); break;
            case 4:  // Lengths and offsets are words: great ones and small ones.
                for (std::size_t k = at & ~std::size_t{3}; k < (at | 3) && k < bytes.size(); ++k) {
                    bytes[k] = random.below(2) == 0 ? 0xFF : 0;
                }
                break;
            default: {
                const std::size_t from = random.below(bytes.size());
                const std::size_t size = std::min(bytes.size() - std::max(at, from),
                                                  static_cast<std::size_t>(1 + random.below(16)));
                std::copy_n(Bytes(bytes).begin() + static_cast<std::ptrdiff_t>(from), size,
                            bytes.begin() + static_cast<std::ptrdiff_t>(at));
            }
        }
    }
    return bytes;
}

TEST_P(Formats, BearWhatNobodyWouldSay) {
    constexpr std::size_t kHeldPerByte = 128;
    SeededRandom random(SeededRandom::mix(GetParam() + 1));
    std::size_t understood = 0;
    for (int i = 0; i < 4000; ++i) {
        const Bytes bytes = changed(format().sample, random);
        ASSERT_LE(most_held_in([&] { (void)format().again(bytes); }),
                  format().base_bytes + kHeldPerByte * bytes.size())
            << "memory grows with what has come, change " << i;
        const Result<Bytes> again = format().again(bytes);
        if (!again) continue;
        ++understood;
        ASSERT_TRUE(is_stable(format(), *again)) << "change " << i;
    }
    EXPECT_LT(understood, 4000U) << "nothing was refused: it is not checked at all";
}

INSTANTIATE_TEST_SUITE_P(All, Formats, testing::Range<std::size_t>(0, formats().size()),
                         [](const auto& each) {
                             std::string name = formats()[each.param].name;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

}  // namespace
}  // namespace ppdsm::fuzz
