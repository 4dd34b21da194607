#include "runtime/peer/vthreads/call_parts.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/lib/link/call_layout.h"

namespace ppdsm {

void send_in_parts(const nlohmann::json& head, std::uint64_t number, ByteView whole,
                   const std::function<void(nlohmann::json head, Bytes part)>& send) {
    std::size_t offset = 0;
    do {
        const ByteView part =
            whole.subspan(offset, std::min(whole.size() - offset, kCallPartBytes));
        nlohmann::json part_head = head;
        part_head["number"] = number;
        part_head["offset"] = offset;
        part_head["total"] = whole.size();
        send(std::move(part_head), Bytes(part.begin(), part.end()));
        offset += part.size();
    } while (offset < whole.size());
}

std::optional<PartsReader::Whole> PartsReader::take(const nlohmann::json& head, ByteView part) {
    constexpr std::uint64_t kMost = std::max(link::kMaxCallBytes, link::kMaxAnswerBytes);
    const std::uint64_t number = head.at("number");
    const std::uint64_t offset = head.at("offset");
    const std::uint64_t total = head.at("total");
    if (offset == 0) whole_ = {number, {}};
    const bool goes_on = number == whole_.number && offset == whole_.bytes.size() &&
                         total <= kMost && part.size() <= total - std::min(offset, total);
    if (!goes_on) return std::nullopt;
    whole_.bytes.insert(whole_.bytes.end(), part.begin(), part.end());
    if (whole_.bytes.size() < total) return std::nullopt;
    return std::exchange(whole_, {});
}

}  // namespace ppdsm
