// Goal: what travels arrives as it was, and what disagrees is refused. Method: values of each kind
// go to bytes and back; bytes are cut short and lied about.
#include <flatbuffers/flatbuffers.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <mutex>

#include "ppdsm/ppdsm.h"

namespace {

using ppdsm::detail::fingerprint;
using ppdsm::detail::kIsPortable;
using ppdsm::detail::pack;
using ppdsm::detail::unpack;

template <class T>
T there_and_back(const T& value) {
    return unpack<T>(pack<T>(value));
}

struct Point {
    double x;
    double y;
    friend bool operator==(const Point& a, const Point& b) { return a.x == b.x && a.y == b.y; }
};

struct WithoutDefault {
    explicit WithoutDefault(int given) : value(given) {}
    int value;
};

struct Tree {
    std::string label;
    std::vector<Tree> children;
    int pair[2] = {0, 0};
    friend bool operator==(const Tree& a, const Tree& b) {
        return a.label == b.label && a.children == b.children && a.pair[0] == b.pair[0] &&
               a.pair[1] == b.pair[1];
    }

    template <class Archive>
    void serialize(Archive& archive) {
        archive(label, children, pair);
    }
};

}  // namespace

namespace outside {

struct Named {
    std::string name;
    bool was_read = false;
};

template <class Archive>
void serialize(Archive& archive, Named& named) {
    archive(named.name);
    if (Archive::kReading) named.was_read = true;
}

}  // namespace outside

namespace {

enum class Colour : std::uint8_t { kRed, kBlue };

TEST(Portable, NumbersEnumsAndPlainStructs) {
    EXPECT_EQ(there_and_back(-7), -7);
    EXPECT_EQ(there_and_back(std::numeric_limits<double>::denorm_min()),
              std::numeric_limits<double>::denorm_min());
    EXPECT_EQ(there_and_back(true), true);
    EXPECT_EQ(there_and_back(Colour::kBlue), Colour::kBlue);
    EXPECT_EQ(there_and_back(Point{1.5, -2}), (Point{1.5, -2}));
    EXPECT_EQ(there_and_back(WithoutDefault(5)).value, 5);
}

TEST(Portable, StandardTypes) {
    const std::string text("a\0b", 3);
    EXPECT_EQ(there_and_back(text), text);
    EXPECT_EQ(there_and_back(std::u16string(u"\u00e9")), u"\u00e9");
    EXPECT_EQ(there_and_back(std::vector<Point>{{1, 2}, {3, 4}}),
              (std::vector<Point>{{1, 2}, {3, 4}}));
    EXPECT_EQ(there_and_back(std::vector<bool>{true, false, true}),
              (std::vector<bool>{true, false, true}));
    EXPECT_EQ(there_and_back(std::vector<std::tuple<>>(3)).size(), 3U);
    EXPECT_EQ(there_and_back(std::vector<WithoutDefault>{WithoutDefault(4)}).at(0).value, 4);
    EXPECT_EQ(there_and_back(std::array<std::string, 2>{"x", "yy"}),
              (std::array<std::string, 2>{"x", "yy"}));
    EXPECT_EQ(there_and_back(std::array<int, 0>{}), (std::array<int, 0>{}));
    EXPECT_EQ(there_and_back(std::optional<std::string>("s")), "s");
    EXPECT_EQ(there_and_back(std::optional<int>()), std::nullopt);
    EXPECT_EQ(there_and_back(std::pair(std::string("k"), 1.5)), std::pair(std::string("k"), 1.5));
    EXPECT_EQ(there_and_back(std::tuple(1, std::string("two"), 3.0)),
              std::tuple(1, std::string("two"), 3.0));
    const std::map<std::string, int> map{{"a", 1}, {"b", 2}};
    EXPECT_EQ(there_and_back(map), map);
    const std::unordered_map<int, std::vector<int>> hashed{{1, {1, 2}}, {2, {}}};
    EXPECT_EQ(there_and_back(hashed), hashed);
    using Variant = std::variant<int, std::string, std::monostate>;
    EXPECT_EQ(there_and_back(Variant("s")), Variant("s"));
    EXPECT_EQ(there_and_back(Variant(std::monostate())), Variant(std::monostate()));
}

TEST(Portable, TypesWithASerializeFunction) {
    const Tree tree{"root", {{"left", {}, {1, 2}}, {"right", {{"leaf", {}, {}}}, {}}}, {3, 4}};
    EXPECT_EQ(there_and_back(tree), tree);
    const auto named = there_and_back(std::vector<outside::Named>{{"n"}});
    EXPECT_EQ(named.at(0).name, "n");
    EXPECT_TRUE(named.at(0).was_read);
}

TEST(Portable, FlatBuffersKeepTheirBytes) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(builder.CreateString("a string in a buffer"));
    const flatbuffers::DetachedBuffer buffer = builder.Release();
    const auto copy = there_and_back(buffer);
    EXPECT_EQ(flatbuffers::GetRoot<flatbuffers::String>(copy.data())->str(),
              "a string in a buffer");
    EXPECT_EQ(there_and_back(flatbuffers::DetachedBuffer()).size(), 0U);
}

TEST(Portable, PointersAndViewsDoNotTravelHoweverDeep) {
    EXPECT_FALSE(kIsPortable<int*>);
    EXPECT_FALSE(kIsPortable<std::string_view>);
#ifdef __cpp_lib_span
    EXPECT_FALSE(kIsPortable<std::span<int>>);
#endif
    EXPECT_FALSE(kIsPortable<std::reference_wrapper<int>>);
    EXPECT_FALSE((kIsPortable<std::vector<std::pair<int, const char*>>>));
    EXPECT_FALSE((kIsPortable<std::variant<int, std::optional<int*>>>));
    EXPECT_FALSE((kIsPortable<std::map<std::string, std::array<int*, 2>>>));
    EXPECT_FALSE(kIsPortable<std::unique_ptr<int>>);
}

TEST(Portable, WhatCannotBeCopiedDoesNotTravel) {
    EXPECT_FALSE(kIsPortable<std::atomic<int>>);
    EXPECT_FALSE(kIsPortable<std::mutex>);
    EXPECT_FALSE((kIsPortable<std::optional<std::atomic<bool>>>));
}

struct Stateless {
    int cached = 0;
    template <class Archive>
    void serialize(Archive&) {}
};

TEST(Portable, ElementsMayTakeNoBytes) {
    EXPECT_EQ(there_and_back(std::vector<Stateless>(3)).size(), 3U);
    EXPECT_EQ((there_and_back(std::vector<std::array<int, 0>>(3)).size()), 3U);
    EXPECT_EQ((there_and_back(std::map<int, Stateless>{{1, {}}, {2, {}}}).size()), 2U);
}

TEST(Portable, ArraysMayBeLarge) {
    std::array<std::uint16_t, 40000> numbers{};
    numbers[1] = 7;
    numbers[39999] = 9;
    EXPECT_EQ(there_and_back(numbers), numbers);
    std::array<std::string, 1000> texts;
    texts[999] = "last";
    EXPECT_EQ(there_and_back(texts), texts);
    EXPECT_EQ((there_and_back(std::array<WithoutDefault, 2>{WithoutDefault(1), WithoutDefault(2)}))
                  .at(1)
                  .value,
              2);
}

TEST(Portable, FingerprintsTellTypesApart) {
    EXPECT_EQ(fingerprint<long>(), fingerprint<long long>());
    const std::vector<std::uint64_t> all{fingerprint<void>(),
                                         fingerprint<int>(),
                                         fingerprint<unsigned>(),
                                         fingerprint<long>(),
                                         fingerprint<float>(),
                                         fingerprint<bool>(),
                                         fingerprint<Point>(),
                                         fingerprint<Tree>(),
                                         fingerprint<Colour>(),
                                         fingerprint<std::string>(),
                                         fingerprint<std::vector<int>>(),
                                         fingerprint<std::vector<std::vector<int>>>(),
                                         fingerprint<std::array<int, 2>>(),
                                         fingerprint<std::array<int, 3>>(),
                                         fingerprint<std::pair<int, float>>(),
                                         fingerprint<std::pair<float, int>>(),
                                         fingerprint<std::tuple<int, float>>(),
                                         fingerprint<std::map<int, float>>(),
                                         fingerprint<std::unordered_map<int, float>>(),
                                         fingerprint<std::variant<int, float>>(),
                                         fingerprint<std::optional<int>>()};
    for (std::size_t i = 0; i < all.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) EXPECT_NE(all[i], all[j]) << i << " and " << j;
    }
}

TEST(Portable, CutBytesAreRefusedAtEveryLength) {
    const std::tuple value{std::vector<std::string>{"one", "two"}, std::map<int, double>{{1, 2.0}},
                           std::optional<int>(3)};
    using Value = std::decay_t<decltype(value)>;
    const auto whole = pack(value);
    for (std::uint64_t size = 0; size < whole.get().size; ++size) {
        ppdsm::detail::Source source(whole.get().data, size);
        EXPECT_THROW(ppdsm::detail::Codec<Value>::read(source), ppdsm::TypeMismatch) << size;
    }
}

TEST(Portable, BytesThatAreLeftAreRefused) {
    EXPECT_THROW(unpack<int>(pack(std::pair(1, 2))), ppdsm::TypeMismatch);
}

TEST(Portable, CountsBeyondTheBytesAreRefusedBeforeTheyCostMemory) {
    for (const std::uint64_t count :
         {std::uint64_t{9}, std::uint64_t{1} << 61, ~std::uint64_t{0}}) {
        const auto bytes = pack(std::pair(count, std::uint64_t{0}));
        EXPECT_THROW(unpack<std::vector<std::uint64_t>>(bytes), ppdsm::TypeMismatch);
        EXPECT_THROW(unpack<std::string>(bytes), ppdsm::TypeMismatch);
        EXPECT_THROW((unpack<std::map<std::string, int>>(bytes)), ppdsm::TypeMismatch);
    }
    const auto seven = pack(std::uint64_t{7});
    EXPECT_THROW((unpack<std::variant<int, float>>(seven)), ppdsm::TypeMismatch);
}

struct Grows {
    std::string text;
    template <class Archive>
    void serialize(Archive& archive) {
        archive(text);
        text += "more";
    }
};

TEST(Portable, ASerializeFunctionThatChangesItsObjectIsCaught) {
    EXPECT_THROW(pack(Grows{}), ppdsm::Misuse);
}

}  // namespace
