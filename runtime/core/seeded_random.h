// Random numbers for pure rooms: a sequence that its seed decides, the same on every machine.
// Not for secrets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ppdsm {

/// SplitMix64 (Steele, Lea, Flood 2014).
class SeededRandom {
public:
    explicit SeededRandom(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        state_ += 0x9E3779B97F4A7C15U;
        return mix(state_);
    }
    /// Uniform in [0, bound); 0 for bound 0. The bias of the remainder is below bound / 2^64.
    std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
    /// Uniform in [low, high].
    std::int64_t between(std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
    }
    bool chance(double probability) {
        return static_cast<double>(next() >> 11) * 0x1p-53 < probability;
    }
    /// Leaves `count` elements, picked at random, in random order; all when there are fewer.
    template <typename Vector>
    void sample(Vector& elements, std::size_t count) {
        for (std::size_t i = 0; i < count && i < elements.size(); ++i) {
            std::swap(elements[i], elements[i + below(elements.size() - i)]);
        }
        if (elements.size() > count) elements.resize(count);
    }

    static constexpr std::uint64_t mix(std::uint64_t value) {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
        return value ^ (value >> 31);
    }

private:
    std::uint64_t state_;
};

}  // namespace ppdsm
