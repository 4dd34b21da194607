// The C++ library's own machinery at work: threads with futures and exceptions, containers that
// grow and shrink, a stream buffer that holds output back.
#include <deque>
#include <future>
#include <iostream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common.h"

namespace {

class Ledger {
public:
    void enter(const std::string& key, std::uint64_t value) {
        const std::lock_guard<std::mutex> lock(mutex_);
        entries_[key].push_back(value);
        if (entries_[key].size() > 50) entries_[key].pop_front();
    }
    std::uint64_t sum() const {
        std::uint64_t sum = kSumStart;
        for (const auto& [key, values] : entries_) {
            sum = checksum(sum, key.data(), key.size());
            for (const std::uint64_t value : values) sum = checksum(sum, &value, sizeof value);
        }
        return sum;
    }

private:
    std::mutex mutex_;
    std::map<std::string, std::deque<std::uint64_t>> entries_;
};

std::uint64_t work(Ledger& ledger, unsigned worker, unsigned round) {
    std::uint64_t state = worker * 1000 + round;
    for (int i = 0; i < 200; ++i) {
        const std::uint64_t value = next_random(&state);
        ledger.enter("key-" + std::to_string(worker) + "-" + std::to_string(value % 17), value);
    }
    pace_ms(15);
    if (next_random(&state) % 5 == 0)
        throw std::runtime_error("by lot in round " + std::to_string(round));
    return state;
}

}  // namespace

int main(int argc, char** argv) {
    const auto rounds = static_cast<unsigned>(rounds_asked(argc, argv, 60));
    Ledger ledger;
    for (unsigned round = 0; round < rounds; ++round) {
        std::vector<std::future<std::uint64_t>> futures;
        for (unsigned worker = 0; worker < 4; ++worker) {
            futures.push_back(
                std::async(std::launch::async, work, std::ref(ledger), worker, round));
        }
        for (auto& future : futures) {
            try {
                std::cout << future.get() << ' ';
            } catch (const std::runtime_error& error) {
                std::cout << error.what() << ' ';
            }
        }
        std::cout << ledger.sum() << '\n';  // Not flushed: what is buffered must survive too.
    }
    return 0;
}
