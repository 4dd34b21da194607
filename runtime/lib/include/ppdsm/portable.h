// Values that travel between virtual threads: which types do, how their bytes look, and by what
// fingerprint two sides know that they mean the same type.
//
// What travels: arithmetic types, enums and other trivially copyable types (but no pointers or
// views: an address means nothing in another process), std::string, vector, array, optional, pair,
// tuple, map, unordered_map and variant of such, flatbuffers::DetachedBuffer, and types with one
// function that names their members, for both ways:
//
//     struct Tour {
//         std::vector<int> cities;
//         double length = 0;
//         template <class Archive>
//         void serialize(Archive& archive) { archive(cities, length); }
//     };
//
// (or a free `serialize(archive, tour)` beside the type). Such a type has a default constructor,
// and its function does nothing else: it is called more than once for a write, on an object that it
// must leave as it is.
//
// The bytes: members one after the other in the machine's own form, a count of 8 bytes before the
// elements of what has no fixed number of them. All machines of a mesh that share a program share
// its byte order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>
#if defined(__has_include) && __cplusplus >= 202002L
#if __has_include(<span>)
#include <span>
#endif
#endif

#include "ppdsm/errors.h"

namespace ppdsm::detail {

template <class... T>
struct Types {};

/// Takes bytes into a place that is large enough, or counts how large it must be.
class Sink {
public:
    Sink() = default;
    Sink(unsigned char* place, std::uint64_t capacity) : place_(place), capacity_(capacity) {}

    void put(const void* bytes, std::uint64_t size) {
        if (place_ != nullptr && size > 0) {
            if (size > capacity_ - size_) {
                throw Misuse(
                    "a serialize function wrote more than it counted: it must not change its "
                    "object");
            }
            std::memcpy(place_ + size_, bytes, size);
        }
        size_ += size;
    }
    void put_count(std::uint64_t count) { put(&count, sizeof count); }
    [[nodiscard]] std::uint64_t size() const { return size_; }

private:
    unsigned char* place_ = nullptr;
    std::uint64_t capacity_ = 0;
    std::uint64_t size_ = 0;
};

/// Gives out bytes that somebody else owns.
class Source {
public:
    Source(const unsigned char* bytes, std::uint64_t size) : at_(bytes), left_(size) {}

    const unsigned char* take(std::uint64_t size) {
        if (size > left_)
            throw TypeMismatch("a value ends before its type does: the sides disagree about it");
        const unsigned char* taken = at_;
        if (size > 0) at_ += size;
        left_ -= size;
        return taken;
    }
    void get(void* place, std::uint64_t size) {
        const unsigned char* taken = take(size);
        if (size > 0) std::memcpy(place, taken, size);
    }
    /// A count of elements; no more than there are bytes, if each has some.
    std::uint64_t count(bool elements_have_bytes) {
        std::uint64_t count = 0;
        get(&count, sizeof count);
        if (elements_have_bytes && count > left_) {
            throw TypeMismatch(
                "a value has more elements than bytes: the sides disagree about its type");
        }
        return count;
    }
    [[nodiscard]] std::uint64_t left() const { return left_; }

private:
    const unsigned char* at_;
    std::uint64_t left_;
};

// Fingerprints: FNV-1a over what a type is made of. User types count by name and size.

constexpr std::uint64_t fnv(std::uint64_t hash, std::string_view text) {
    for (const char c : text) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
    }
    return hash;
}

constexpr std::uint64_t fnv(std::uint64_t hash, std::uint64_t number) {
    for (int byte = 0; byte < 8; ++byte) {
        hash = (hash ^ ((number >> (8 * byte)) & 0xff)) * 1099511628211U;
    }
    return hash;
}

constexpr std::uint64_t fingerprint_of(std::string_view kind) {
    return fnv(14695981039346656037U, kind);
}

template <class... Number>
constexpr std::uint64_t fingerprint_of(std::string_view kind, std::uint64_t first, Number... rest) {
    std::uint64_t hash = fnv(fingerprint_of(kind), first);
    ((hash = fnv(hash, static_cast<std::uint64_t>(rest))), ...);
    return hash;
}

/// As the compiler writes it; gcc and clang agree on all but templates' arguments and unnamed
/// namespaces.
template <class T>
constexpr std::string_view type_name() {
    constexpr std::string_view kText = __PRETTY_FUNCTION__;
    constexpr auto kBegin = kText.find("T = ") + 4;
    constexpr auto kSemicolon = kText.find("; std::string_view", kBegin);
    constexpr auto kEnd = kSemicolon == std::string_view::npos ? kText.size() - 1 : kSemicolon;
    return kText.substr(kBegin, kEnd - kBegin);
}

// What T is, when it is not one of the standard library's that are written member by member.

class Writer;
class Reader;

template <class T, class = void>
struct HasMemberSerialize : std::false_type {};
template <class T>
struct HasMemberSerialize<
    T, std::void_t<decltype(std::declval<T&>().serialize(std::declval<Writer&>()))>>
    : std::true_type {};

template <class T, class = void>
struct HasFreeSerialize : std::false_type {};
template <class T>
struct HasFreeSerialize<
    T, std::void_t<decltype(serialize(std::declval<Writer&>(), std::declval<T&>()))>>
    : std::true_type {};

/// flatbuffers::DetachedBuffer, without its header: bytes that know the allocation they lie in.
template <class T, class = void>
struct IsDetachedBuffer : std::false_type {};
template <class T>
struct IsDetachedBuffer<T, std::void_t<decltype(std::declval<const T&>().data()),
                                       decltype(std::declval<const T&>().size())>>
    : std::bool_constant<
          std::is_same_v<decltype(std::declval<const T&>().data()), const std::uint8_t*> &&
          std::is_constructible_v<T, std::nullptr_t, bool, std::uint8_t*, std::size_t,
                                  std::uint8_t*, std::size_t>> {};

template <class T>
struct IsAddress : std::bool_constant<std::is_pointer_v<T> || std::is_member_pointer_v<T> ||
                                      std::is_null_pointer_v<T> || std::is_reference_v<T>> {};
template <class C, class T>
struct IsAddress<std::basic_string_view<C, T>> : std::true_type {};
template <class T>
struct IsAddress<std::reference_wrapper<T>> : std::true_type {};
template <class T>
struct IsAddress<std::initializer_list<T>> : std::true_type {};
#ifdef __cpp_lib_span
template <class T, std::size_t Extent>
struct IsAddress<std::span<T, Extent>> : std::true_type {};
#endif

/// kPortable: T travels. kBitwise: its bytes in memory are its bytes on the way; at least one.
/// Parts: of what it is composed, for the standard library's types.
template <class T>
struct Codec {
    static constexpr bool kMember = HasMemberSerialize<T>::value;
    static constexpr bool kFree = !kMember && HasFreeSerialize<T>::value;
    static constexpr bool kDetached = !kMember && !kFree && IsDetachedBuffer<T>::value;
    static constexpr bool kBitwise = !kMember && !kFree && !kDetached &&
                                     std::is_trivially_copyable_v<T> && !IsAddress<T>::value &&
                                     !std::is_array_v<T> && std::is_move_constructible_v<T>;
    static constexpr bool kPortable = kMember || kFree || kDetached || kBitwise;
    using Parts = Types<>;

    static constexpr std::uint64_t fingerprint() {
        if constexpr (std::is_same_v<T, bool>) {
            return fingerprint_of("bool");
        } else if constexpr (std::is_integral_v<T>) {
            return fingerprint_of(std::is_signed_v<T> ? "signed" : "unsigned", sizeof(T));
        } else if constexpr (std::is_floating_point_v<T>) {
            return fingerprint_of("floating", sizeof(T));
        } else if constexpr (kDetached) {
            return fingerprint_of("buffer");
        } else {
            return fingerprint_of(type_name<T>(), sizeof(T));
        }
    }
    static void write(Sink& sink, const T& value);
    static T read(Source& source);
};

template <class T>
inline constexpr bool kIsPortable = Codec<T>::kPortable;

template <class T>
constexpr std::uint64_t fingerprint() {
    if constexpr (std::is_void_v<T>) {
        return fingerprint_of("void");
    } else {
        return Codec<T>::fingerprint();
    }
}

template <class... Part>
constexpr bool require_all_portable(Types<Part...>);

/// Fails to compile, saying why, if T cannot travel; of what is composed, about its part.
template <class T>
constexpr bool require_portable() {
    static_assert(
        !IsAddress<T>::value,
        "ppdsm: a pointer, reference or view cannot travel between virtual threads, since what it "
        "points to stays behind; pass the value itself (std::string, std::vector, ...)");
    constexpr bool kIsComposed = !std::is_same_v<typename Codec<T>::Parts, Types<>>;
    static_assert(
        kIsPortable<T> || IsAddress<T>::value || kIsComposed,
        "ppdsm: this type cannot travel between virtual threads; give it a default constructor and "
        "`template <class Archive> void serialize(Archive& archive) { archive(member, ...); }`");
    if constexpr (kIsComposed) {
        return require_all_portable(typename Codec<T>::Parts{});
    } else {
        return kIsPortable<T>;
    }
}

template <class... Part>
constexpr bool require_all_portable(Types<Part...>) {
    return (require_portable<Part>() && ...);
}

/// What a user type's serialize function is given to write with.
class Writer {
public:
    static constexpr bool kReading = false;

    explicit Writer(Sink& sink) : sink_(sink) {}

    template <class... Member>
    void operator()(const Member&... members) {
        (write(members), ...);
    }

private:
    template <class Member>
    void write(const Member& member) {
        if constexpr (std::is_array_v<Member>) {
            for (const auto& element : member) write(element);
        } else if constexpr (require_portable<Member>()) {
            Codec<Member>::write(sink_, member);
        }
    }

    Sink& sink_;
};

/// The same to read with.
class Reader {
public:
    static constexpr bool kReading = true;

    explicit Reader(Source& source) : source_(source) {}

    template <class... Member>
    void operator()(Member&... members) {
        (read(members), ...);
    }

private:
    template <class Member>
    void read(Member& member) {
        if constexpr (std::is_array_v<Member>) {
            for (auto& element : member) read(element);
        } else if constexpr (require_portable<Member>()) {
            member = Codec<Member>::read(source_);
        }
    }

    Source& source_;
};

template <class T>
void Codec<T>::write(Sink& sink, const T& value) {
    if constexpr (kMember) {
        Writer writer(sink);
        const_cast<T&>(value).serialize(writer);
    } else if constexpr (kFree) {
        Writer writer(sink);
        serialize(writer, const_cast<T&>(value));
    } else if constexpr (kDetached) {
        sink.put_count(value.size());
        sink.put(value.data(), value.size());
    } else {
        sink.put(std::addressof(value), sizeof(T));
    }
}

template <class T>
T Codec<T>::read(Source& source) {
    if constexpr (kMember || kFree) {
        static_assert(std::is_default_constructible_v<T>,
                      "ppdsm: a type with a serialize function needs a default constructor too, to "
                      "be read into");
        T value{};
        Reader reader(source);
        if constexpr (kMember) {
            value.serialize(reader);
        } else {
            serialize(reader, value);
        }
        return value;
    } else if constexpr (kDetached) {
        const std::uint64_t size = source.count(true);
        const unsigned char* bytes = source.take(size);
        if (size == 0) return T{};
        // The buffer gives this back with delete[], since that is what no allocator means to it.
        auto place = std::make_unique<std::uint8_t[]>(size);
        std::memcpy(place.get(), bytes, size);
        std::uint8_t* raw = place.release();
        return T(nullptr, false, raw, size, raw, size);
    } else if constexpr (std::is_default_constructible_v<T>) {
        T value;
        source.get(std::addressof(value), sizeof(T));
        return value;
    } else {
        alignas(T) unsigned char place[sizeof(T)];
        source.get(place, sizeof(T));
        return *std::launder(reinterpret_cast<T*>(place));
    }
}

}  // namespace ppdsm::detail

#include "ppdsm/portable_std.h"
