#include "runtime/peer/mesh/invite.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/base32.h"
#include "dsm/base/wall_clock.h"

namespace ppdsm {

using Json = nlohmann::json;

namespace {

constexpr std::uint8_t kTokenVersion = 1;
constexpr std::string_view kTokenPrefix = "ppdsm-";
constexpr std::string_view kRequestMagic = "PPDSMJN1";
constexpr std::string_view kAnswerMagic = "PPDSMJA1";
constexpr std::size_t kProofOffset = 16;
constexpr std::size_t kNameOffset = kProofOffset + 32;
constexpr std::size_t kMaxNameBytes = kJoinRequestBytes - kNameOffset - 1;
constexpr std::size_t kChecksumBytes = 4;
constexpr std::size_t kMaxOpen = 256;
constexpr std::int64_t kKeepExpiredMs = std::int64_t{24} * 3600 * 1000;

template <typename Range>
void append(Bytes& out, const Range& range) {
    out.insert(out.end(), range.begin(), range.end());
}

template <std::size_t Size>
void take(ByteView& from, std::array<std::uint8_t, Size>& into) {
    std::copy_n(from.begin(), Size, into.begin());
    from = from.subspan(Size);
}

std::array<std::uint8_t, 32> proof_of(ByteView proof_key, const PublicKey& key,
                                      const std::array<std::uint8_t, 32>& channel) {
    Bytes said(channel.begin(), channel.end());
    append(said, key.bytes);
    return authenticate(proof_key, said);
}

template <std::size_t Size>
Result<std::array<std::uint8_t, Size>> bytes_from(const Json& json) {
    PPDSM_ASSIGN(const Bytes decoded, decode_base32(json.get<std::string>()));
    std::array<std::uint8_t, Size> bytes{};
    if (decoded.size() != Size) return fail(Code::kCorrupt, "bytes of wrong length");
    std::copy(decoded.begin(), decoded.end(), bytes.begin());
    return bytes;
}

}  // namespace

std::string Invitation::to_token() const {
    Bytes bytes{kTokenVersion};
    append(bytes, inviter.bytes);
    append(bytes, id);
    append(bytes, secret);
    for (const std::string& address : addresses) {
        bytes.push_back(static_cast<std::uint8_t>(std::min<std::size_t>(address.size(), 255)));
        append(bytes, address.substr(0, 255));
    }
    const auto checksum = sha256(bytes);
    bytes.insert(bytes.end(), checksum.begin(), checksum.begin() + kChecksumBytes);
    return std::string(kTokenPrefix) + encode_base32(bytes);
}

Result<Invitation> Invitation::parse(std::string_view token) {
    const auto refuse = [](const std::string& why) {
        return fail(Code::kInvalid, "this is no invitation (" + why +
                                        "); copy all of what `ppdsm peer invite` printed");
    };
    if (!token.starts_with(kTokenPrefix)) return refuse("it does not begin with ppdsm-");
    const Result<Bytes> decoded = decode_base32(token.substr(kTokenPrefix.size()));
    if (!decoded) return refuse(decoded.error().what());
    Invitation invitation;
    const std::size_t fixed_bytes = 1 + invitation.inviter.bytes.size() + invitation.id.size() +
                                    invitation.secret.size() + kChecksumBytes;
    if (decoded->size() < fixed_bytes) return refuse("it is too short");
    ByteView rest(*decoded);
    const auto checksum = sha256(rest.first(rest.size() - kChecksumBytes));
    if (!std::equal(rest.end() - kChecksumBytes, rest.end(), checksum.begin())) {
        return refuse("a letter is wrong or missing");
    }
    rest = rest.first(rest.size() - kChecksumBytes);
    if (rest.front() != kTokenVersion) return refuse("another release made it");
    rest = rest.subspan(1);
    take(rest, invitation.inviter.bytes);
    take(rest, invitation.id);
    take(rest, invitation.secret);
    while (!rest.empty()) {
        const std::size_t size = rest.front();
        if (size >= rest.size()) return refuse("it is cut off");
        invitation.addresses.emplace_back(as_text(rest.subspan(1, size)));
        rest = rest.subspan(1 + size);
    }
    return invitation;
}

Status explain_verdict(JoinVerdict verdict) {
    switch (verdict) {
        case JoinVerdict::kAdmitted: return {};
        case JoinVerdict::kExpired:
            return fail(Code::kInvalid, "the invitation has expired; ask for a new one");
        case JoinVerdict::kUsed:
            return fail(Code::kInvalid, "the invitation has been used; each admits one peer");
        case JoinVerdict::kRefused: break;
    }
    return fail(Code::kInvalid, "the inviter does not know this invitation");
}

Bytes encode_join_request(const Invitation& invitation, const PublicKey& key,
                          const std::array<std::uint8_t, 32>& channel, const std::string& name) {
    Bytes request(kRequestMagic.begin(), kRequestMagic.end());
    append(request, invitation.id);
    append(request, proof_of(sha256(invitation.secret), key, channel));
    const std::string short_name = name.substr(0, kMaxNameBytes);
    request.push_back(static_cast<std::uint8_t>(short_name.size()));
    append(request, short_name);
    request.resize(kJoinRequestBytes);
    return request;
}

Bytes encode_join_answer(JoinVerdict verdict) {
    Bytes answer(kAnswerMagic.begin(), kAnswerMagic.end());
    answer.push_back(static_cast<std::uint8_t>(verdict));
    answer.resize(kJoinAnswerBytes);
    return answer;
}

Result<JoinVerdict> decode_join_answer(ByteView bytes) {
    if (bytes.size() != kJoinAnswerBytes || as_text(bytes.first(8)) != kAnswerMagic ||
        bytes[8] > static_cast<std::uint8_t>(JoinVerdict::kUsed)) {
        return fail(Code::kCorrupt, "the inviter's answer is none");
    }
    return static_cast<JoinVerdict>(bytes[8]);
}

Result<Invitations> Invitations::open(const std::filesystem::path& path) {
    Invitations invitations(path);
    const Result<std::string> text = read_text(path);
    if (!text && text.error().code() == Code::kNotFound) return invitations;
    if (!text) return fail(text.error());
    try {
        const Json list = Json::parse(*text);
        for (const Json& each : list) {
            Open open;
            PPDSM_ASSIGN(open.id, bytes_from<8>(each.at("id")));
            PPDSM_ASSIGN(open.proof_key, bytes_from<32>(each.at("proof_key")));
            each.at("expires_unix_ms").get_to(open.expires_unix_ms);
            each.at("used").get_to(open.used);
            invitations.open_.push_back(open);
        }
    } catch (const Json::exception& bad) {
        return fail(Code::kCorrupt, path.string() + ": " + bad.what() +
                                        "; remove it: open invitations are void then");
    }
    return invitations;
}

Status Invitations::save() const {
    Json list = Json::array();
    for (const Open& open : open_) {
        list.push_back({{"id", encode_base32(open.id)},
                        {"proof_key", encode_base32(open.proof_key)},
                        {"expires_unix_ms", open.expires_unix_ms},
                        {"used", open.used}});
    }
    return replace_file(path_, as_bytes(list.dump(1) + "\n"), 0600);
}

Result<Invitation> Invitations::issue(const PeerId& inviter, std::vector<std::string> addresses,
                                      std::int64_t valid_ms) {
    const std::int64_t now_ms = unix_now_ms();
    std::erase_if(open_,
                  [&](const Open& open) { return open.expires_unix_ms + kKeepExpiredMs < now_ms; });
    if (open_.size() >= kMaxOpen) {
        return fail(Code::kOverloaded, "there are " + std::to_string(kMaxOpen) +
                                           " invitations of the last day; wait until they expire");
    }
    Invitation invitation;
    invitation.inviter = inviter;
    invitation.addresses = std::move(addresses);
    fill_random(invitation.id);
    fill_random(invitation.secret);
    open_.push_back({invitation.id, sha256(invitation.secret), now_ms + valid_ms, false});
    PPDSM_TRY(save());
    return invitation;
}

bool Invitations::has_open() const { return !open_.empty(); }

Result<Invitations::Request> Invitations::judge(ByteView request, const PublicKey& key,
                                                const std::array<std::uint8_t, 32>& channel) {
    Request judged;
    if (request.size() != kJoinRequestBytes || as_text(request.first(8)) != kRequestMagic) {
        return fail(Code::kCorrupt, "no request to join");
    }
    const auto found = std::find_if(open_.begin(), open_.end(), [&](const Open& open) {
        return std::equal(open.id.begin(), open.id.end(), request.begin() + 8);
    });
    if (found == open_.end()) return judged;
    const auto expected = proof_of(found->proof_key, key, channel);
    if (!equal_in_constant_time(expected, request.subspan(kProofOffset, expected.size()))) {
        return judged;
    }
    judged.verdict = found->used ? JoinVerdict::kUsed : JoinVerdict::kAdmitted;
    if (!found->used && unix_now_ms() > found->expires_unix_ms) {
        judged.verdict = JoinVerdict::kExpired;
    }
    const std::size_t name_bytes = std::min<std::size_t>(request[kNameOffset], kMaxNameBytes);
    judged.name = as_text(request.subspan(kNameOffset + 1, name_bytes));
    if (judged.verdict != JoinVerdict::kAdmitted) return judged;
    found->used = true;
    PPDSM_TRY(save());
    return judged;
}

}  // namespace ppdsm
