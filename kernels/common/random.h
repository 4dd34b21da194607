// Counter-based random numbers: the i-th number of a stream is a pure function of the stream's key
// and i. So it does not matter who draws it, nor in which order, and a stream's whole state is two
// words that travel anywhere.
#pragma once

#include <cstdint>

namespace kernels {

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
/// 2014).
constexpr std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

/// The number that SplitMix64, seeded with `key`, draws after `counter` others.
constexpr std::uint64_t random_at(std::uint64_t key, std::uint64_t counter) {
    return mix(key + (counter + 1) * 0x9e3779b97f4a7c15U);
}

/// Numbers of one key, one after the other.
class RandomStream {
public:
    RandomStream() = default;
    /// Streams of one seed with different numbers have nothing in common.
    constexpr RandomStream(std::uint64_t seed, std::uint64_t number)
        : key_(random_at(mix(seed), number)) {}

    constexpr std::uint64_t next() { return random_at(key_, counter_++); }

    /// Uniform below `bound`, which must not be 0. (The bias is bound / 2^32.)
    constexpr std::uint32_t below(std::uint32_t bound) {
        return static_cast<std::uint32_t>(((next() >> 32) * bound) >> 32);
    }

private:
    std::uint64_t key_ = 0;
    std::uint64_t counter_ = 0;
};

}  // namespace kernels
