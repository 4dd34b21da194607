// How the standard library's types travel that are written element by element. Part of portable.h.
#pragma once

#include "ppdsm/portable.h"

namespace ppdsm::detail {

template <class Sequence, class T>
Sequence read_sequence(Source& source) {
    const std::uint64_t count = source.count(Codec<T>::kBitwise);
    Sequence sequence;
    if constexpr (Codec<T>::kBitwise && sizeof(T) == 1 && !std::is_same_v<T, bool>) {
        const auto* bytes = reinterpret_cast<const T*>(source.take(count));
        sequence.assign(bytes, bytes + count);
    } else if constexpr (Codec<T>::kBitwise && std::is_default_constructible_v<T> &&
                         !std::is_same_v<T, bool>) {
        // Divided rather than multiplied: a wrong count must not wrap around.
        if (count > source.left() / sizeof(T)) source.take(source.left() + 1);
        sequence.resize(count);
        source.get(sequence.data(), count * sizeof(T));
    } else {
        for (std::uint64_t i = 0; i < count; ++i) sequence.push_back(Codec<T>::read(source));
    }
    return sequence;
}

template <class T, class Sequence>
void write_sequence(Sink& sink, const Sequence& sequence) {
    sink.put_count(sequence.size());
    if constexpr (Codec<T>::kBitwise && !std::is_same_v<T, bool>) {
        sink.put(sequence.data(), sequence.size() * sizeof(T));
    } else {
        for (const T& element : sequence) Codec<T>::write(sink, element);
    }
}

template <class C, class Traits, class Allocator>
struct Codec<std::basic_string<C, Traits, Allocator>> {
    using String = std::basic_string<C, Traits, Allocator>;
    using Parts = Types<>;
    static constexpr bool kBitwise = false;
    static constexpr bool kPortable = true;
    static constexpr std::uint64_t fingerprint() { return fingerprint_of("string", sizeof(C)); }
    static void write(Sink& sink, const String& value) { write_sequence<C>(sink, value); }
    static String read(Source& source) { return read_sequence<String, C>(source); }
};

template <class T, class Allocator>
struct Codec<std::vector<T, Allocator>> {
    using Parts = Types<T>;
    using Vector = std::vector<T, Allocator>;
    static constexpr bool kBitwise = false;
    static constexpr bool kPortable = kIsPortable<T>;
    static constexpr std::uint64_t fingerprint() {
        return fingerprint_of("vector", Codec<T>::fingerprint());
    }
    static void write(Sink& sink, const Vector& value) { write_sequence<T>(sink, value); }
    static Vector read(Source& source) { return read_sequence<Vector, T>(source); }
};

template <class T, std::size_t Size>
struct Codec<std::array<T, Size>> {
    using Parts = Types<T>;
    static constexpr bool kBitwise = Codec<T>::kBitwise && Size > 0;
    static constexpr bool kPortable = kIsPortable<T>;
    static constexpr std::uint64_t fingerprint() {
        return fingerprint_of("array", Codec<T>::fingerprint(), Size);
    }
    static void write(Sink& sink, const std::array<T, Size>& value) {
        if constexpr (kBitwise) {
            sink.put(value.data(), sizeof(T) * Size);
        } else {
            for (const T& element : value) Codec<T>::write(sink, element);
        }
    }
    static std::array<T, Size> read(Source& source) {
        // One by one would take the compiler long for large ones.
        if constexpr (kBitwise && std::is_default_constructible_v<T>) {
            std::array<T, Size> value;
            source.get(value.data(), sizeof(T) * Size);
            return value;
        } else if constexpr (std::is_default_constructible_v<T> && std::is_move_assignable_v<T>) {
            std::array<T, Size> value{};
            for (T& element : value) element = Codec<T>::read(source);
            return value;
        } else {
            return read_elements(source, std::make_index_sequence<Size>{});
        }
    }

private:
    template <std::size_t... Index>
    static std::array<T, Size> read_elements([[maybe_unused]] Source& source,
                                             std::index_sequence<Index...>) {
        return {{(static_cast<void>(Index), Codec<T>::read(source))...}};
    }
};

template <class T>
struct Codec<std::optional<T>> {
    using Parts = Types<T>;
    static constexpr bool kBitwise = false;
    static constexpr bool kPortable = kIsPortable<T>;
    static constexpr std::uint64_t fingerprint() {
        return fingerprint_of("optional", Codec<T>::fingerprint());
    }
    static void write(Sink& sink, const std::optional<T>& value) {
        Codec<bool>::write(sink, value.has_value());
        if (value.has_value()) Codec<T>::write(sink, *value);
    }
    static std::optional<T> read(Source& source) {
        if (Codec<std::uint8_t>::read(source) == 0) return std::nullopt;
        return Codec<T>::read(source);
    }
};

template <class First, class Second>
struct Codec<std::pair<First, Second>> {
    using Parts = Types<First, Second>;
    static constexpr bool kBitwise = false;
    static constexpr bool kPortable = kIsPortable<First> && kIsPortable<Second>;
    static constexpr std::uint64_t fingerprint() {
        return fingerprint_of("pair", Codec<First>::fingerprint(), Codec<Second>::fingerprint());
    }
    static void write(Sink& sink, const std::pair<First, Second>& value) {
        Codec<First>::write(sink, value.first);
        Codec<Second>::write(sink, value.second);
    }
    static std::pair<First, Second> read(Source& source) {
        auto first = Codec<First>::read(source);
        return {std::move(first), Codec<Second>::read(source)};
    }
};

template <class... T>
struct Codec<std::tuple<T...>> {
    using Parts = Types<T...>;
    static constexpr bool kBitwise = false;
    static constexpr bool kPortable = (kIsPortable<T> && ...);
    static constexpr std::uint64_t fingerprint() {
        return fingerprint_of("tuple", sizeof...(T), Codec<T>::fingerprint()...);
    }
    static void write([[maybe_unused]] Sink& sink, const std::tuple<T...>& value) {
        std::apply([&](const auto&... element) { (Codec<T>::write(sink, element), ...); }, value);
    }
    static std::tuple<T...> read([[maybe_unused]] Source& source) {
        return std::tuple<T...>{Codec<T>::read(source)...};  // Braces read from left to right.
    }
};

template <class Map, class Key, class Value>
struct MapCodec {
    using Parts = Types<Key, Value>;
    static constexpr bool kBitwise = false;
    static constexpr bool kPortable = kIsPortable<Key> && kIsPortable<Value>;
    static void write(Sink& sink, const Map& map) {
        sink.put_count(map.size());
        for (const auto& [key, value] : map) {
            Codec<Key>::write(sink, key);
            Codec<Value>::write(sink, value);
        }
    }
    static Map read(Source& source) {
        Map map;
        for (std::uint64_t left = source.count(Codec<Key>::kBitwise); left > 0; --left) {
            auto key = Codec<Key>::read(source);
            map.emplace(std::move(key), Codec<Value>::read(source));
        }
        return map;
    }
};

template <class Key, class Value, class Compare, class Allocator>
struct Codec<std::map<Key, Value, Compare, Allocator>>
    : MapCodec<std::map<Key, Value, Compare, Allocator>, Key, Value> {
    static constexpr std::uint64_t fingerprint() {
        return fingerprint_of("map", Codec<Key>::fingerprint(), Codec<Value>::fingerprint());
    }
};

template <class Key, class Value, class Hash, class Equal, class Allocator>
struct Codec<std::unordered_map<Key, Value, Hash, Equal, Allocator>>
    : MapCodec<std::unordered_map<Key, Value, Hash, Equal, Allocator>, Key, Value> {
    static constexpr std::uint64_t fingerprint() {
        return fingerprint_of("unordered_map", Codec<Key>::fingerprint(),
                              Codec<Value>::fingerprint());
    }
};

template <class... T>
struct Codec<std::variant<T...>> {
    using Parts = Types<T...>;
    static constexpr bool kBitwise = false;
    static constexpr bool kPortable = (kIsPortable<T> && ...);
    static constexpr std::uint64_t fingerprint() {
        return fingerprint_of("variant", sizeof...(T), Codec<T>::fingerprint()...);
    }
    static void write(Sink& sink, const std::variant<T...>& value) {
        if (value.valueless_by_exception()) {
            throw Misuse("a variant without a value cannot travel");
        }
        sink.put_count(value.index());
        std::visit(
            [&](const auto& held) { Codec<std::decay_t<decltype(held)>>::write(sink, held); },
            value);
    }
    static std::variant<T...> read(Source& source) {
        return read_alternative<0>(source, source.count(false));
    }

private:
    template <std::size_t Index>
    static std::variant<T...> read_alternative(Source& source, std::uint64_t wanted) {
        if constexpr (Index < sizeof...(T)) {
            if (wanted != Index) return read_alternative<Index + 1>(source, wanted);
            using Held = std::variant_alternative_t<Index, std::variant<T...>>;
            return std::variant<T...>(std::in_place_index<Index>, Codec<Held>::read(source));
        } else {
            throw TypeMismatch("a variant holds a type that it does not have: the sides disagree");
        }
    }
};

}  // namespace ppdsm::detail
